"""Tasks: what scores mean, one module per task."""

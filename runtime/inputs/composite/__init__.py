"""Several named inputs of one model."""

"""A task from outside the packages, 'embed': its manifest type, and one file for each side."""

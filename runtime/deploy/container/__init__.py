"""Container images: Dockerfile, locked requirements, bill of materials."""

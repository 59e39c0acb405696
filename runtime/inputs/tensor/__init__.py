"""Arrays: decoding, files and tables, wire format."""

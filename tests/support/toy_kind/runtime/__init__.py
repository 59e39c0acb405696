"""Points: decoding, files and tables, wire format."""

"""Token sequences: decoding, files and tables, wire format."""

"""Table rows: decoding, files and tables, wire format."""

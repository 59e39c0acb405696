"""Images: decoding, files and tables, wire format."""

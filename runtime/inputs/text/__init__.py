"""Texts: decoding, files and tables, wire format."""

"""The checkpoint of an artifact as an eager network."""

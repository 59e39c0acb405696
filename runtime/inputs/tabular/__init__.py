"""Table rows: decoding."""

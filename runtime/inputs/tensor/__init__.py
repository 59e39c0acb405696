"""Arrays: decoding."""

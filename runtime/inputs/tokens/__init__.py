"""Token sequences: decoding."""

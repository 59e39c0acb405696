"""Images: decoding and preparation."""

"""Text inputs: tokenizer and adapter."""

"""Texts: tokenization."""

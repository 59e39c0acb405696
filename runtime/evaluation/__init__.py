"""Metrics on labeled data."""

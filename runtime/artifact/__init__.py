"""Artifacts on disk: open, check, compare."""

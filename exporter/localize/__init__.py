"""Fault localization: the first node that differs."""

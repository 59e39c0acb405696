"""Attacks on a server: what one hostile request costs, and fuzzed requests."""

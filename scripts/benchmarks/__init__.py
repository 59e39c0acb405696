"""Benchmarks of the README's and the documentation's figures: see scripts/bench."""

"""Sweeps over every known architecture: see scripts/sweep."""

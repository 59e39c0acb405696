"""Comparisons with other engines and other preprocessing."""

"""Variants of an artifact in other precisions: their calibration data, their graphs, and what is measured of them."""

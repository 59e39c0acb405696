"""Preprocessing steps in the exporter, one module per step; ``exporter/inputs/image/registry.py`` lists them."""

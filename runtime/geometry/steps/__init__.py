"""Preprocessing steps on the host, one module per step; ``runtime/geometry/registry.py`` lists them."""

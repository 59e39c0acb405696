"""A toy input kind, a point of two numbers, as an extension outside the packages.

A real kind has the same files, as ``runtime/inputs/point/`` and ``exporter/inputs/point/``, and three edits of existing
files: its type in ``runtime/manifest/inputs.py``, which ``Input`` lists, and one entry in each registry.
"""

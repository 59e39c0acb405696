"""Inputs of several parts: photo and row, two photos, text and numbers; each part is of a kind of its own."""

"""Inputs of several parts, each of another kind."""

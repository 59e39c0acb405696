"""Architectures: what a checkpoint is, and the network it makes."""

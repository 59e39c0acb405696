"""Architectures: what a checkpoint is, and the network it makes."""

# How a reference to an architecture of timm begins, and one to a Hugging Face folder.
TIMM = "timm:"
HUGGING_FACE = "hf:"

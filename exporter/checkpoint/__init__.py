"""Any checkpoint, read as data: what it is, and its weights. Needs no torch until the weights are loaded."""

from exporter.checkpoint.reading import read_checkpoint
from exporter.checkpoint.stored import Candidate, Checkpoint, StoredTensor

__all__ = ["Candidate", "Checkpoint", "StoredTensor", "read_checkpoint"]

"""Any checkpoint, read as data: what it is, and its weights. Needs no torch until the weights are loaded."""

from exporter.checkpoint.description import Candidate, Checkpoint, StoredTensor
from exporter.checkpoint.read import check_unchanged, read_checkpoint

__all__ = ["Candidate", "Checkpoint", "StoredTensor", "check_unchanged", "read_checkpoint"]

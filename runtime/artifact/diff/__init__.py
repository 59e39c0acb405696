"""Comparison of two artifacts; needs no PyTorch and no onnx."""

from runtime.artifact.diff.artifacts import Comparison, compare_artifacts
from runtime.artifact.diff.values import PARTS, Difference, Part

__all__ = ["PARTS", "Comparison", "Difference", "Part", "compare_artifacts"]

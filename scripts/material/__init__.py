"""Weights, labels and photos of the demo and the benchmarks."""

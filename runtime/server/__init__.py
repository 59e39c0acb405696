"""Inference server: one service behind an HTTP and a gRPC API."""

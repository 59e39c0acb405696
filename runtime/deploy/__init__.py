"""Deployment: containers, KServe, Triton and Ray."""

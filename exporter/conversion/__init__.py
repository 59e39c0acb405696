"""Conversion of networks to ONNX and TorchScript."""

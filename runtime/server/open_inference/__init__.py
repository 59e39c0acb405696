"""Open Inference Protocol (V2): requests, JSON, tensors."""

"""gRPC API."""

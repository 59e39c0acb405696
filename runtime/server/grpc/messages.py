"""Message classes of the Open Inference Protocol's gRPC service.

They are made from ``open_inference.binpb``, which ``scripts/make-descriptor`` compiles from ``open_inference.proto``,
in a descriptor pool of their own: clients such as tritonclient register the same names in protobuf's default pool, and
would collide with them in one process.
"""

from functools import cache
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"


def read_descriptor_set() -> Any:
    """Return the compiled ``open_inference.proto``, a FileDescriptorSet of one file."""
    data = (resources.files("runtime.server.grpc") / "open_inference.binpb").read_bytes()
    return descriptor_pb2.FileDescriptorSet.FromString(data)


def _build_pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in read_descriptor_set().file:
        pool.Add(file)
    return pool


POOL = _build_pool()

# The descriptor of the service: its methods, and the messages that they take and return.
SERVICE = POOL.FindServiceByName(f"{PACKAGE}.GRPCInferenceService")


@cache
def message_class(name: str) -> Any:
    """Return the class of the message ``name``, such as ``ModelInferRequest``."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))

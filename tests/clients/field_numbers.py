"""Are the numbers and types in runtime/server/grpc_messages.py those that tritonclient's generated code has?

Reads our descriptor, as a serialized FileDescriptorProto, from standard input.
"""

import sys

from google.protobuf import descriptor_pb2
from tritonclient.grpc import service_pb2

ours = descriptor_pb2.FileDescriptorProto.FromString(sys.stdin.buffer.read())
theirs = descriptor_pb2.FileDescriptorProto.FromString(service_pb2.DESCRIPTOR.serialized_pb)


def fields(messages, prefix=""):
    found = {}
    for message in messages:
        if not message.options.map_entry:
            for field in message.field:
                found[f"{prefix}{message.name}.{field.name}"] = (field.number, field.type, field.label)
        found |= fields(message.nested_type, f"{prefix}{message.name}.")
    return found


mine, known = fields(ours.message_type), fields(theirs.message_type)
assert len(mine) > 60
different = {name: (value, known.get(name)) for name, value in mine.items() if known.get(name) != value}
assert not different, different
methods = {method.name for method in ours.service[0].method}
assert methods <= {method.name for method in theirs.service[0].method}
print("ok")

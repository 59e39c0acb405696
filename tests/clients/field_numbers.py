"""Are the numbers and types in runtime/server/grpc/messages.py those that tritonclient's generated code has?

Reads our descriptor, as a serialized FileDescriptorProto, from standard input.
"""

import sys

from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

ours = descriptor_pb2.FileDescriptorProto.FromString(sys.stdin.buffer.read())
theirs, configuration = (
    descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    for module in (service_pb2, model_config_pb2)
)


def fields(messages, prefix=""):
    found = {}
    for message in messages:
        if not message.options.map_entry:
            for field in message.field:
                found[f"{prefix}{message.name}.{field.name}"] = (field.number, field.type, field.label)
        found |= fields(message.nested_type, f"{prefix}{message.name}.")
    return found


mine, known = fields(ours.message_type), fields(theirs.message_type) | fields(configuration.message_type)
assert len(mine) > 60
different = {name: (value, known.get(name)) for name, value in mine.items() if known.get(name) != value}
assert not different, different
for enumeration in ours.enum_type:
    (same,) = (one for one in configuration.enum_type if one.name == enumeration.name)
    assert enumeration == same, enumeration
methods = {method.name for method in ours.service[0].method}
assert methods <= {method.name for method in theirs.service[0].method}
print("ok")

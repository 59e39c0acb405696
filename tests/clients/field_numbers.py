"""Field numbers and types of our messages, compared with those of tritonclient's generated code.

Reads open_inference.binpb, a serialized FileDescriptorSet, from standard input.
"""

import sys

from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

(ours,) = descriptor_pb2.FileDescriptorSet.FromString(sys.stdin.buffer.read()).file
theirs, configuration = (
    descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    for module in (service_pb2, model_config_pb2)
)


def fields(messages, prefix=""):
    by_name = {}
    for message in messages:
        if not message.options.map_entry:
            for field in message.field:
                by_name[f"{prefix}{message.name}.{field.name}"] = (field.number, field.type, field.label)
        by_name |= fields(message.nested_type, f"{prefix}{message.name}.")
    return by_name


ours_by_name, known = fields(ours.message_type), fields(theirs.message_type) | fields(configuration.message_type)
assert len(ours_by_name) > 60
different = {name: (value, known.get(name)) for name, value in ours_by_name.items() if known.get(name) != value}
assert not different, different
for enumeration in ours.enum_type:
    (same,) = (other for other in configuration.enum_type if other.name == enumeration.name)
    assert enumeration == same, enumeration
methods = {method.name for method in ours.service[0].method}
assert methods <= {method.name for method in theirs.service[0].method}
print("ok")

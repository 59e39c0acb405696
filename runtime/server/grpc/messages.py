"""The messages of the Open Inference Protocol's gRPC service, with the numbers that every client of it has.

They are built from the table below into a descriptor pool of their own: clients such as tritonclient register the same
names in protobuf's default pool, and would collide with generated code in one process.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "GRPCInferenceService"

# A message's fields as "number name: type"; '*' repeats a field, '->' is a map from strings, '|' puts it into a oneof.
_MESSAGES: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("1 live: bool",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("1 ready: bool",),
    "ModelReadyRequest": ("1 name: string", "2 version: string"),
    "ModelReadyResponse": ("1 ready: bool",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("1 name: string", "2 version: string", "3 extensions: *string"),
    "ModelMetadataRequest": ("1 name: string", "2 version: string"),
    "ModelMetadataResponse": (
        "1 name: string",
        "2 versions: *string",
        "3 platform: string",
        "4 inputs: *ModelMetadataResponse.TensorMetadata",
        "5 outputs: *ModelMetadataResponse.TensorMetadata",
    ),
    "ModelMetadataResponse.TensorMetadata": ("1 name: string", "2 datatype: string", "3 shape: *int64"),
    "InferParameter": (
        "1 bool_param: |bool",
        "2 int64_param: |int64",
        "3 string_param: |string",
        "4 double_param: |double",
        "5 uint64_param: |uint64",
    ),
    "InferTensorContents": (
        "1 bool_contents: *bool",
        "2 int_contents: *int32",
        "3 int64_contents: *int64",
        "4 uint_contents: *uint32",
        "5 uint64_contents: *uint64",
        "6 fp32_contents: *float",
        "7 fp64_contents: *double",
        "8 bytes_contents: *bytes",
    ),
    "ModelInferRequest": (
        "1 model_name: string",
        "2 model_version: string",
        "3 id: string",
        "4 parameters: ->InferParameter",
        "5 inputs: *ModelInferRequest.InferInputTensor",
        "6 outputs: *ModelInferRequest.InferRequestedOutputTensor",
        "7 raw_input_contents: *bytes",
    ),
    "ModelInferRequest.InferInputTensor": (
        "1 name: string",
        "2 datatype: string",
        "3 shape: *int64",
        "4 parameters: ->InferParameter",
        "5 contents: InferTensorContents",
    ),
    "ModelInferRequest.InferRequestedOutputTensor": ("1 name: string", "2 parameters: ->InferParameter"),
    "ModelInferResponse": (
        "1 model_name: string",
        "2 model_version: string",
        "3 id: string",
        "4 parameters: ->InferParameter",
        "5 outputs: *ModelInferResponse.InferOutputTensor",
        "6 raw_output_contents: *bytes",
    ),
    "ModelInferResponse.InferOutputTensor": (
        "1 name: string",
        "2 datatype: string",
        "3 shape: *int64",
        "4 parameters: ->InferParameter",
        "5 contents: InferTensorContents",
    ),
    "ModelStreamInferResponse": ("1 error_message: string", "2 infer_response: ModelInferResponse"),
    "ModelConfigRequest": ("1 name: string", "2 version: string"),
    "ModelConfigResponse": ("1 config: ModelConfig",),
    "ModelConfig": (
        "1 name: string",
        "2 platform: string",
        "3 version_policy: ModelVersionPolicy",
        "4 max_batch_size: int32",
        "5 input: *ModelInput",
        "6 output: *ModelOutput",
        "17 backend: string",
    ),
    "ModelInput": ("1 name: string", "2 data_type: DataType", "4 dims: *int64"),
    "ModelOutput": ("1 name: string", "2 data_type: DataType", "3 dims: *int64"),
    "ModelVersionPolicy": ("1 latest: ModelVersionPolicy.Latest",),
    "ModelVersionPolicy.Latest": ("1 num_versions: uint32",),
    "ModelStatisticsRequest": ("1 name: string", "2 version: string"),
    "ModelStatisticsResponse": ("1 model_stats: *ModelStatistics",),
    "StatisticDuration": ("1 count: uint64", "2 ns: uint64"),
    "InferStatistics": (
        "1 success: StatisticDuration",
        "2 fail: StatisticDuration",
        "3 queue: StatisticDuration",
        "4 compute_input: StatisticDuration",
        "5 compute_infer: StatisticDuration",
        "6 compute_output: StatisticDuration",
        "7 cache_hit: StatisticDuration",
        "8 cache_miss: StatisticDuration",
    ),
    "InferBatchStatistics": (
        "1 batch_size: uint64",
        "2 compute_input: StatisticDuration",
        "3 compute_infer: StatisticDuration",
        "4 compute_output: StatisticDuration",
    ),
    "ModelStatistics": (
        "1 name: string",
        "2 version: string",
        "3 last_inference: uint64",
        "4 inference_count: uint64",
        "5 execution_count: uint64",
        "6 inference_stats: InferStatistics",
        "7 batch_stats: *InferBatchStatistics",
    ),
    "RepositoryIndexRequest": ("1 repository_name: string", "2 ready: bool"),
    "RepositoryIndexResponse": ("1 models: *RepositoryIndexResponse.ModelIndex",),
    "RepositoryIndexResponse.ModelIndex": (
        "1 name: string",
        "2 version: string",
        "3 state: string",
        "4 reason: string",
    ),
}

# An enumeration's names, from 0.
_ENUMERATIONS: dict[str, tuple[str, ...]] = {
    "DataType": tuple(
        f"TYPE_{name}"
        for name in (
            *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
            *("FP16", "FP32", "FP64", "STRING", "BF16"),
        )
    )
}

# The calls, by name: what they take and give.
METHODS: dict[str, tuple[str, str]] = {
    name: (f"{name}Request", f"{name}Response")
    for name in (
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelConfig",
        "ModelInfer",
        "ModelStatistics",
        "RepositoryIndex",
    )
}
STREAM_METHODS: dict[str, tuple[str, str]] = {"ModelStreamInfer": ("ModelInferRequest", "ModelStreamInferResponse")}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def _build_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="truecopy/open_inference.proto", package=PACKAGE, syntax="proto3")
    built: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = (built[outer].nested_type if outer else file.message_type).add(name=inner)
        built[name] = message
        for field in fields:
            _add_field(message, name, field)
    for name, values in _ENUMERATIONS.items():
        enumeration = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enumeration.value.add(name=value, number=number)
    service = file.service.add(name=SERVICE)
    for methods, streams in ((METHODS, False), (STREAM_METHODS, True)):
        for name, (takes, gives) in methods.items():
            service.method.add(
                name=name,
                input_type=f".{PACKAGE}.{takes}",
                output_type=f".{PACKAGE}.{gives}",
                client_streaming=streams,
                server_streaming=streams,
            )
    return file


def _add_field(message: Any, owner: str, text: str) -> None:
    number_and_name, _, kind = text.partition(": ")
    number, name = number_and_name.split()
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind.startswith("->"):
        entry_name = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _add_field(entry, "", "1 key: string")
        _add_field(entry, "", f"2 value: {kind[2:]}")
        field.label = _Field.LABEL_REPEATED
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{owner}.{entry_name}"
        return
    if kind.startswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    elif kind.startswith("*"):
        field.label = _Field.LABEL_REPEATED
    kind = kind.lstrip("*|")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_ENUM if kind in _ENUMERATIONS else _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


POOL = descriptor_pool.DescriptorPool()
_FILE = POOL.Add(_build_file()) or POOL.FindFileByName("truecopy/open_inference.proto")


def message_class(name: str) -> Any:
    """Return the class of the message ``name``, such as ``ModelInferRequest``."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))

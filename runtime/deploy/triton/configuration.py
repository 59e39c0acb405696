"""Triton's config.pbtxt: a model's configuration as protobuf text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from numpy.typing import NDArray

from runtime.server.limits import Limits
from runtime.server.open_inference.requests import config_datatype
from runtime.server.open_inference.tensors import TensorSpec, datatype_of

# The most inputs of one call, from one client or several.
MAX_BATCH = 32

_HEAD = """\
# {about}
# Written by 'truecopy deploy triton'; edit any number here.
name: {name}
backend: {backend}
default_model_filename: {file}
max_batch_size: {max_batch}
"""

_BATCHING = f"""\
# Waiting requests run together. Requests beyond the queue, or past the deadline, are refused.
dynamic_batching {{
  default_queue_policy {{
    max_queue_size: {Limits().queue}
    default_timeout_microseconds: {int(Limits().deadline_s * 1e6)}
    timeout_action: REJECT
  }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """A request that an instance runs before it is ready: a golden input, ``batch`` times.

    ``arrays`` are its tensors by input, each with a batch of one; ``files`` are the files of their data in the model's
    folder ``warmup``.
    """

    number: int
    batch: int
    arrays: Mapping[str, NDArray[Any]]

    @property
    def name(self) -> str:
        """Its name in Triton's log."""
        return f"golden-{self.number}-times-{self.batch}"

    @property
    def files(self) -> dict[str, str]:
        """The file of each input's data, by input."""
        return {tensor: f"golden-{self.number}-{position}" for position, tensor in enumerate(self.arrays)}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A model's configuration. Shapes begin with the batch, which is an ordinary dimension unless ``batched``.

    ``labels`` is the file with the names of an output's classes, empty where there is none.
    """

    about: str
    name: str
    backend: str
    file: str
    batched: bool
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    optional_inputs: Sequence[TensorSpec] = ()
    labels: str = ""
    instances: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    warm_ups: Sequence[WarmUp] = ()

    def to_text(self) -> str:
        """Return it as protobuf's text format."""
        head = _HEAD.format(
            about=self.about,
            name=_quoted(self.name),
            backend=_quoted(self.backend),
            file=_quoted(self.file),
            max_batch=MAX_BATCH if self.batched else 0,
        )
        tensors = [self._tensor("input", spec) for spec in self.inputs]
        tensors += [self._tensor("input", spec, " optional: true") for spec in self.optional_inputs]
        label_file = f" label_filename: {_quoted(self.labels)}" if self.labels else ""
        tensors += [self._tensor("output", spec, label_file) for spec in self.outputs]
        parameters = [
            f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}\n"
            for key, value in self.parameters.items()
        ]
        batching = _BATCHING if self.batched else ""
        return "".join([head, *tensors, self.instances, *parameters, batching, *map(self._warm_up, self.warm_ups)])

    def _tensor(self, kind: str, spec: TensorSpec, more: str = "") -> str:
        return (
            f"{kind} {{ name: {_quoted(spec.name)} data_type: {config_datatype(spec.datatype)} "
            f"{self._dims(spec.shape)}{more} }}\n"
        )

    def _dims(self, shape: tuple[int, ...]) -> str:
        """Return a shape as ``dims``, of which Triton requires at least one."""
        lengths = shape[1:] if self.batched else shape
        return f"dims: {list(lengths)}" if lengths else "dims: [1] reshape { shape: [] }"

    def _warm_up(self, warm_up: WarmUp) -> str:
        files = warm_up.files
        inputs = [
            f"  inputs {{ key: {_quoted(name)} value {{ data_type: "
            f"{config_datatype(datatype_of(array.dtype))} dims: {self._lengths(array)} "
            f"input_data_file: {_quoted(files[name])} }} }}\n"
            for name, array in warm_up.arrays.items()
        ]
        head = f"model_warmup {{\n  name: {_quoted(warm_up.name)} batch_size: {warm_up.batch}\n"
        return "".join([head, *inputs, "}\n"])

    def _lengths(self, array: NDArray[Any]) -> list[int]:
        return list(array.shape[1:] if self.batched else array.shape) or [1]


def warm_ups(cases: Sequence[Mapping[str, NDArray[Any]]], *, batched: bool, shapes: int) -> list[WarmUp]:
    """Return a warm-up for the first case of each shape, of at most ``shapes``, and one more with a full batch."""
    distinct: dict[tuple[Any, ...], Mapping[str, NDArray[Any]]] = {}
    for arrays in cases:
        distinct.setdefault(tuple(array.shape for array in arrays.values()), arrays)
    chosen = list(distinct.values())[:shapes]
    single = [WarmUp(number=number, batch=1, arrays=arrays) for number, arrays in enumerate(chosen)]
    return [*single, WarmUp(number=0, batch=MAX_BATCH, arrays=chosen[0])] if batched else single


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()

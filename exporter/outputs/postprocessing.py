"""Postprocessing: what follows the network, from its outputs to the artifact's.

It is executed three times: by torch for the reference (``expect``), in the graph (``nodes``) and in TorchScript
(``module``). Parity compares them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporter.conversion.network_io import main_output, take_apart
from exporter.conversion.node_builder import NodeBuilder
from exporter.errors import ConversionError, ExportError, ParityError
from exporter.options.task import TaskOptions
from exporter.outputs.interpreter import ReferenceInterpreter
from exporter.outputs.labels import LabelSource, read_labels
from runtime.manifest import Output, Task

Activation: TypeAlias = Literal["softmax", "sigmoid", "binary", "complement", "argmax", "none"]

# Arrays by name.
Named: TypeAlias = dict[str, NDArray[Any]]

# The network's own outputs inside the graph; a raw task has several, whose names follow.
LOGITS = "logits"


@dataclass(frozen=True, kw_only=True)
class Postprocessing(ABC):
    """Computation that follows the network, and the artifact's outputs that it gives.

    ``outputs`` are in the order of the network's; their dimensions of the network's own are filled in once it is
    converted. ``batch_axes`` says which dimension of the network's tensors is the batch, by the path to a tensor, where
    it is not the first; in the artifact's outputs it is. Subclasses have one output, made of the forward's main one,
    unless they override what says so.
    """

    task: Task
    activation: Activation
    outputs: tuple[Output, ...]
    batch_axes: Mapping[str, int] = field(default_factory=dict)

    # The meaning of the outputs.
    interpreter: ClassVar[type[ReferenceInterpreter]]

    # Whether every tensor that the forward returns is an output, and not the main one alone.
    whole: ClassVar[bool] = False

    # Whether the network makes its output step by step, up to an end token.
    stepwise: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def infer(cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str) -> "Postprocessing":
        """Return the postprocessing for what the eager network ``name`` returned, one value per case, batches of one.

        Raises ConversionError where the outputs do not fit the task, ExportError where the options do not.
        """

    @classmethod
    @abstractmethod
    def options_of(cls, task: Any, value: Any) -> TaskOptions:
        """Return the options that an artifact's ``task`` was exported with; ``value`` is what its network returned."""

    @property
    @abstractmethod
    def finding(self) -> str:
        """What was added, in words."""

    @abstractmethod
    def module(self) -> nn.Module:
        """Return the postprocessing of the main output as a module that TorchScript can compile."""

    @abstractmethod
    def add_nodes(self, nodes: NodeBuilder) -> None:
        """Append the graph's last nodes, from ``inner_names`` to the outputs."""

    @property
    def parts(self) -> tuple["Postprocessing", ...]:
        """The postprocessing of each part of the outputs that has one of its own: by default, this one."""
        return (self,)

    @property
    def computes(self) -> bool:
        """Whether anything is computed after the network."""
        return self.activation != "none"

    @property
    def least_limit(self) -> float:
        """How far scores may be apart by the formulas of the forms alone."""
        return 0.0

    @property
    def inner_names(self) -> tuple[str, ...]:
        """The names of the network's outputs inside the graph."""
        return (LOGITS,)

    def nodes(self) -> NodeBuilder:
        """Return the graph's last nodes."""
        nodes = NodeBuilder("postprocessing")
        self.add_nodes(nodes)
        return nodes

    def expect(self, value: Any, dtype: torch.dtype = torch.float32) -> Named:
        """Return the artifact's outputs for what the eager network returned; scores are computed in ``dtype``."""
        return {self.outputs[0].name: self.module()(self.main(value).to(dtype)).numpy()}

    def expect_inner(self, value: Any, dtype: torch.dtype = torch.float32) -> Named:
        """Return the network's own outputs, by their names in the graph; the artifact's where nothing follows them."""
        if not self.computes:
            return self.expect(value, dtype)
        return {LOGITS: self.main(value).to(dtype).numpy()}

    def expect_rows(self, value: Any, count: int) -> tuple[list[Named], list[Named]]:
        """Return ``expect_inner`` and ``expect`` for each of ``count`` inputs that shared a batch.

        Raises ConversionError where the value has no row for each of them.
        """
        main = self.main(value)
        if len(main) != count:
            raise ConversionError(f"its output is {list(main.shape)} for {count} inputs")
        rows = replace(self, batch_axes={})
        parts = [main[row : row + 1] for row in range(count)]
        return [rows.expect_inner(part) for part in parts], [rows.expect(part) for part in parts]

    def activate(self, inner: Named, dtype: torch.dtype = torch.float32) -> Named:
        """Return the artifact's outputs for the network's own, as ``expect_inner`` gives them."""
        return replace(self, batch_axes={}).expect(torch.from_numpy(inner[LOGITS]).to(dtype), dtype)

    def main(self, value: Any) -> Tensor:
        """Return the main output of a value that the network returned, its batch first."""
        return main_of(value, self.batch_axes)

    def with_shapes(self, shapes: Mapping[str, Sequence[int | str]]) -> tuple[Output, ...]:
        """Return the outputs with the dimensions that the converted network gives, by inner name."""
        del shapes
        return self.outputs

    def read_labels(
        self, source: LabelSource | None, assume: Callable[[int], tuple[tuple[str, ...], str]]
    ) -> tuple[tuple[str, ...], str]:
        """Return the class names or words that the user gave, and where they are from; none for a task without either.

        ``assume`` gives both for a number of classes where the user gave none.
        """
        del assume
        if source is not None:
            raise ExportError(f"--labels: are for classes: expected none with --task {self.task.kind}. Leave them out.")
        return (), "none: the task has no classes"

    def own_labels(self, source: LabelSource | None, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the class names or words that the user gave, as many as ``labels``, which stand where none were."""
        return tuple(labels) if source is None else read_labels(source, classes=len(labels))

    def with_labels(self, labels: Sequence[str], *, file: str) -> Self:
        """Return the postprocessing once its labels are known, which ``file`` of the artifact holds."""
        del labels, file
        return self


def main_of(value: Any, batch_axes: Mapping[str, int] = MappingProxyType({})) -> Tensor:
    """Return the main output of a value that the network returned; ``infer`` has made sure that there is one."""
    main = main_output(value, batch_axes)
    assert main is not None
    return main


def main_outputs(
    values: Sequence[Any], *, dimensions: Sequence[int], expected: str, kind: str, name: str
) -> list[Tensor]:
    """Return the main output of each value that the network ``name`` returned.

    Raises ConversionError unless all have one, with as many dimensions as ``dimensions`` allow. The message says what
    was ``expected``, and the ``kind`` of network that it is not.
    """
    tensors = []
    for value in values:
        main = main_output(value)
        if main is None or main.ndim not in dimensions:
            raise not_fitting(main, value, expected=expected, kind=kind, name=name)
        tensors.append(main)
    return tensors


def not_fitting(main: Tensor | None, value: Any, *, expected: str, kind: str, name: str) -> ConversionError:
    """Return the error for a network whose output does not fit its task."""
    got = list(main.shape) if main is not None else type(value).__name__
    return ConversionError(
        f"'{name}': not {kind}: expected one output {expected}, got {got}. "
        f"{_remedy(main, value)}Name what it gives with --task, or wrap it in a module whose forward returns that "
        "output."
    )


def _remedy(main: Tensor | None, value: Any) -> str:
    """Return how to have a result for each output, or for each position of one, where there are several."""
    if main is not None and main.ndim == 3 and main.is_floating_point():
        return "Pass --task tokens for the likeliest class at each position, such as the characters of a plate. "
    tensors = {} if isinstance(value, Tensor) else take_apart(value)[1]
    if len(tensors) < 2 or any(tensor.ndim not in (1, 2) for tensor in tensors.values()):
        return ""
    return f"It returns {', '.join(map(repr, tensors))}: pass --task heads for a result of each. "


def check_finite(tensors: Sequence[Tensor], name: str) -> None:
    """Raise ParityError where outputs of the eager network ``name`` have NaN or infinity."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise ParityError(
            f"'{name}': the eager model itself gives NaN or infinity. Check the checkpoint's weights and the "
            "transform's mean and std."
        )


def check_logits(tensors: Sequence[Tensor], name: str, *, exclusive: bool) -> None:
    """Raise ParityError where logits of the eager network ``name`` give no probabilities.

    Minus infinity is a mask: its class has the probability 0. Where the classes are ``exclusive``, which a softmax
    makes them, another class, dimension 1, has to have a finite logit.
    """
    for tensor in tensors:
        masked = tensor == -torch.inf
        check_finite([tensor[~masked]], name)
        if exclusive and bool(masked.all(dim=1).any()):
            raise ParityError(
                f"'{name}': the eager model itself masks every class of an input with minus infinity, of which a "
                "softmax makes NaN. Leave one unmasked; or, where classes do not exclude one another, pass --task "
                "multilabel."
            )


def to_rows(tensors: Sequence[Tensor]) -> Tensor:
    """Return the outputs of all cases as one float32 [cases, values]."""
    return torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors]).to(torch.float32)


def output_info(output: Output) -> onnx.ValueInfoProto:
    """Return an output as the graph declares it."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(output.dtype))
    return onnx.helper.make_tensor_value_info(output.name, kind, list(output.shape))


class MainOutput(nn.Module):
    """The network's main output as it is, with a dimension for its values."""

    def forward(self, logits: Tensor) -> Tensor:
        """Return the artifact's output."""
        return logits.unsqueeze(1) if logits.dim() == 1 else logits

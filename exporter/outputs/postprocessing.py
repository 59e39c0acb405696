"""What comes after the network: its outputs' activation, scaling and names, for each task.

postprocessing is executed three times: by torch for the reference (``expect``), in the graph (``nodes``) and in
TorchScript (``module``). Parity compares them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporter.conversion.network_io import main_output, take_apart
from exporter.conversion.node_builder import NodeBuilder
from exporter.errors import ConversionError, ExportError, ParityError
from exporter.outputs.target_inverse import inverse_module, inverse_nodes
from exporter.recipe import TaskOptions
from runtime.manifest import (
    Affine,
    Classify,
    InverseStep,
    Labels,
    Multilabel,
    Output,
    Raw,
    Regress,
    Segment,
    Task,
    Tokens,
    Value,
)
from runtime.results import until_end

Activation: TypeAlias = Literal["softmax", "sigmoid", "binary", "argmax", "none"]
TaskName: TypeAlias = str

# Arrays by name.
Named: TypeAlias = dict[str, NDArray[Any]]

PROBABILITIES = "probabilities"
VALUES = "values"
SEQUENCE = "sequence"

# The network's own outputs inside the graph; a raw task has several, with their names behind it.
LOGITS = "logits"

# Rows that sum to 1 within this are probabilities already: float32 sums of 1000 values are off by less.
_PROBABILITY_SUM = 1e-4


@dataclass(frozen=True, kw_only=True)
class Postprocessing:
    """What is done to the network's outputs, and what the artifact then gives.

    ``outputs`` are the artifact's, in the order of the network's; their dimensions of the network's own are filled in
    once it is converted.
    """

    task: Task
    activation: Activation
    outputs: tuple[Output, ...]

    @property
    def whole(self) -> bool:
        """Whether every tensor that the forward returns is an output, and not the main one alone."""
        return isinstance(self.task, Raw)

    @property
    def computes(self) -> bool:
        """Whether anything is computed after the network: an activation, or a target's scaling undone."""
        return self.activation != "none" or bool(self._undone)

    @property
    def inner_names(self) -> tuple[str, ...]:
        """What the network's outputs are called inside the graph."""
        return tuple(f"{LOGITS}/{output.name}" for output in self.outputs) if self.whole else (LOGITS,)

    @property
    def finding(self) -> str:
        """What was added, in words."""
        return {
            "softmax": "softmax added",
            "sigmoid": "sigmoid added",
            "argmax": "the likeliest token at each step",
            "binary": "one logit: sigmoid added, both classes' probabilities given",
            "none": (
                "the network gives probabilities itself: none added"
                if not isinstance(self.task, Raw | Regress | Tokens)
                else "the target's transform undone"
                if self._undone
                else "outputs as they are"
            ),
        }[self.activation]

    def expect(self, value: Any, dtype: torch.dtype = torch.float32) -> Named:
        """Return the artifact's outputs for what the eager network returned; scores are computed in ``dtype``."""
        if self.whole:
            return {name: tensor.numpy() for name, tensor in take_apart(value)[1].items()}
        main = main_output(value)
        assert main is not None
        if isinstance(self.task, Tokens):
            tokens = main.argmax(dim=-1) if main.is_floating_point() else main.to(torch.int64)
            return {self.outputs[0].name: until_end(tokens[0].numpy(), self.task.end_id)[np.newaxis]}
        return {self.outputs[0].name: self.module()(main.to(dtype)).numpy()}

    def expect_inner(self, value: Any, dtype: torch.dtype = torch.float32) -> Named:
        """Return the network's own outputs, by their names in the graph; the artifact's where nothing follows them."""
        if not self.computes:
            return self.expect(value, dtype)
        main = main_output(value)
        assert main is not None
        if isinstance(self.task, Tokens):
            # Up to and with the end token: what follows is filling, which a loop in the graph may leave out.
            main = main[:, : self.expect(value)[self.outputs[0].name].shape[1] + 1]
        return {LOGITS: main.to(dtype).numpy()}

    def expect_rows(self, value: Any, count: int) -> tuple[list[Named], list[Named]]:
        """Return ``expect_inner`` and ``expect`` for each of ``count`` inputs that shared a batch."""
        if self.whole:
            tensors = take_apart(value)[1]
            batched = {name: tensor for name, tensor in tensors.items() if tensor.shape[:1] == (count,)}
            rows = [{name: tensor[row : row + 1].numpy() for name, tensor in batched.items()} for row in range(count)]
            return rows, rows
        main = main_output(value)
        assert main is not None
        parts = [main[row : row + 1] for row in range(count)]
        return [self.expect_inner(part) for part in parts], [self.expect(part) for part in parts]

    def activate(self, inner: Named, dtype: torch.dtype = torch.float32) -> Named:
        """Return the artifact's outputs for the network's own, as ``expect_inner`` gives them."""
        return self.expect(torch.from_numpy(inner[LOGITS]).to(dtype), dtype)

    def module(self) -> nn.Module:
        """Return the postprocessing of a task with one output as a module that TorchScript can compile."""
        return _PostprocessingModule(self.activation, dimension=self._dimension, inverse_transform=self._undone)

    def nodes(self) -> NodeBuilder:
        """Return the graph's last nodes."""
        nodes = NodeBuilder("postprocessing")
        if self.whole:
            for inner, output in zip(self.inner_names, self.outputs, strict=True):
                nodes.add("Identity", inner, output=output.name)
            return nodes
        name = self.outputs[0].name
        match self.activation:
            case "softmax":
                nodes.add("Softmax", LOGITS, axis=self._dimension, output=name)
            case "sigmoid":
                nodes.add("Sigmoid", LOGITS, output=name)
            case "binary":
                # Both from the logit: 1 - sigmoid would lose the small one's digits.
                logit = nodes.add("Reshape", LOGITS, nodes.integers(-1, 1))
                both = nodes.add("Concat", nodes.add("Neg", logit), logit, axis=1)
                nodes.add("Sigmoid", both, output=name)
            case "argmax":
                nodes.add("ArgMax", LOGITS, axis=-1, keepdims=0, output=name)
            case "none" if isinstance(self.task, Tokens):
                nodes.add("Cast", LOGITS, to=onnx.TensorProto.INT64, output=name)
            case "none" if isinstance(self.task, Regress):
                shape = nodes.integers(-1, len(self.task.values))
                if self._undone:
                    inverse_nodes(nodes, self._undone, nodes.add("Reshape", LOGITS, shape), output=name)
                else:
                    nodes.add("Reshape", LOGITS, shape, output=name)
            case "none":
                nodes.add("Identity", LOGITS, output=name)
        return nodes

    def with_shapes(self, shapes: Mapping[str, Sequence[int | str]]) -> "tuple[Output, ...]":
        """Return the outputs with the dimensions that the converted network gives, by inner name."""
        if not self.whole and not isinstance(self.task, Segment):
            return self.outputs
        return tuple(
            Output(name=output.name, dtype=output.dtype, shape=tuple(shapes[inner]))
            for inner, output in zip(self.inner_names, self.outputs, strict=True)
        )

    @property
    def _undone(self) -> tuple[InverseStep, ...]:
        return self.task.inverse_transform if isinstance(self.task, Regress) else ()

    @property
    def _dimension(self) -> int:
        return 1 if isinstance(self.task, Segment) else -1


class _PostprocessingModule(nn.Module):
    """The arithmetic after the network's main output."""

    def __init__(self, activation: str, *, dimension: int, inverse_transform: tuple[InverseStep, ...]) -> None:
        super().__init__()
        self.activation = activation
        self.dimension = dimension
        self.undoes = bool(inverse_transform)
        self.inverse_transform = inverse_module(inverse_transform)

    def forward(self, logits: Tensor) -> Tensor:
        """Return the artifact's output."""
        if self.activation == "softmax":
            return torch.softmax(logits, dim=self.dimension)
        if self.activation == "sigmoid":
            return torch.sigmoid(logits)
        if self.activation == "binary":
            logit = logits.reshape(-1, 1)
            return torch.sigmoid(torch.cat((-logit, logit), dim=1))
        if self.undoes:
            values = logits.reshape(logits.size(0), -1).to(torch.float64)
            inverse_transform: Tensor = self.inverse_transform(values)
            return inverse_transform.to(logits.dtype)
        return logits.unsqueeze(1) if logits.dim() == 1 else logits


def infer_postprocessing(values: Sequence[Any], wanted: TaskOptions, *, labels_file: str, name: str) -> Postprocessing:
    """Return the postprocessing for what the eager network returned, one value a case, each a batch of one.

    Raises ConversionError where the outputs do not fit the task, ExportError where what the user said does not.
    """
    task = wanted.task or "classify"
    if task == "raw":
        return _raw(values[0])
    if task == "tokens":
        return _tokens([_main(value, task, name) for value in values], wanted)
    logits = [_main(value, task, name) for value in values]
    _check_finite(logits, name)
    if task == "segment":
        return _segment(logits, wanted, labels_file)
    flat = torch.cat([tensor.reshape(len(tensor), -1) for tensor in logits]).to(torch.float32)
    count = flat.shape[1]
    if task == "regress":
        return _regress(count, wanted)
    if task == "binary":
        if count != 1:
            raise ConversionError(
                f"'{name}': not one logit: expected an output [batch, 1] or [batch] for --task binary, got "
                f"[batch, {count}]. Use --task classify for a logit a class."
            )
        soft = bool(((flat >= 0) & (flat <= 1)).all())
        if soft:
            raise ConversionError(
                f"'{name}': looks like a probability already: expected one logit for --task binary, got values from "
                f"{float(flat.min()):g} to {float(flat.max()):g}. Drop the sigmoid from its forward, or use --task raw."
            )
        labels = Labels(file=labels_file, count=2)
        return _one(Classify(labels=labels), "binary", PROBABILITIES, 2)
    if task == "classify" and count == 1:
        raise ConversionError(
            f"'{name}': one score an input: expected one a class for --task classify. Say --task binary if it is the "
            "logit of the second of two classes, or --task regress if it is a number."
        )
    labels = Labels(file=labels_file, count=count)
    if task == "multilabel":
        thresholds = wanted.thresholds or (0.5,)
        thresholds = thresholds * count if len(thresholds) == 1 else thresholds
        if len(thresholds) != count or not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ExportError(
                f"thresholds: expected {count} probabilities, one a class, or one for all, got {len(thresholds)}: "
                f"{', '.join(f'{threshold:g}' for threshold in thresholds[:10])}. Correct --thresholds."
            )
        soft = bool(((flat >= 0) & (flat <= 1)).all())
        return _one(
            Multilabel(labels=labels, thresholds=thresholds), "none" if soft else "sigmoid", PROBABILITIES, count
        )
    return _one(Classify(labels=labels), _softmax_or_none(flat), PROBABILITIES, count)


def _one(task: Task, activation: Activation, name: str, count: int) -> Postprocessing:
    output = Output(name=name, dtype="float32", shape=("batch", count))
    return Postprocessing(task=task, activation=activation, outputs=(output,))


def _raw(value: Any) -> Postprocessing:
    structure, tensors = take_apart(value)
    if not tensors:
        raise ConversionError("the network returns no tensor: expected at least one. Return tensors.")
    outputs = tuple(
        Output(name=name, dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape))
        for name, tensor in tensors.items()
    )
    return Postprocessing(task=Raw(structure=structure), activation="none", outputs=outputs)


def _segment(logits: Sequence[Tensor], wanted: TaskOptions, labels_file: str) -> Postprocessing:
    count = int(logits[0].shape[1])
    colors = wanted.colors or tuple(palette(count))
    if len(colors) != count:
        raise ExportError(f"colors: expected {count}, one a class, got {len(colors)}. Correct --colors.")
    labels = Labels(file=labels_file, count=count)
    output = Output(name=PROBABILITIES, dtype="float32", shape=("batch", count, "height", "width"))
    sums = torch.cat([tensor.sum(dim=1).flatten() for tensor in logits])
    soft = all(bool((tensor >= 0).all()) for tensor in logits) and bool(((sums - 1).abs() < _PROBABILITY_SUM).all())
    return Postprocessing(
        task=Segment(labels=labels, colors=colors), activation="none" if soft else "softmax", outputs=(output,)
    )


def _tokens(outputs: Sequence[Tensor], wanted: TaskOptions) -> Postprocessing:
    soft = outputs[0].is_floating_point()
    return Postprocessing(
        task=Tokens(end_id=wanted.end_id),
        activation="argmax" if soft else "none",
        outputs=(Output(name=SEQUENCE, dtype="int64", shape=("batch", "steps")),),
    )


def _regress(count: int, wanted: TaskOptions) -> Postprocessing:
    values = wanted.values or tuple(
        Value(name="value" if count == 1 else f"value {position}") for position in range(count)
    )
    if len(values) != count:
        raise ExportError(
            f"values: expected {count} names, one an output of the network, got {len(values)}. Correct --values."
        )
    inverse = wanted.target_transform if isinstance(wanted.target_transform, tuple) else ()
    for step in inverse:
        fitted = len(step.scale if isinstance(step, Affine) else step.lambdas)
        if fitted not in (0, count):
            raise ExportError(
                f"--target-transform: fitted on {fitted} values: expected {count}, one an output of the network. Give "
                "the transform that the target went through."
            )
    scaling: dict[str, tuple[float, ...]] = {}
    for option, given, default in (("mean", wanted.target_mean, 0.0), ("std", wanted.target_std, 1.0)):
        numbers = given or (default,)
        numbers = numbers * count if len(numbers) == 1 else numbers
        if len(numbers) != count or not np.isfinite(numbers).all() or (option == "std" and 0.0 in numbers):
            raise ExportError(
                f"--target-{option}: expected {count} finite numbers, one a value, or one for all, got "
                f"{', '.join(f'{number:g}' for number in numbers[:10])}. Give those that the target was scaled with."
            )
        scaling[option] = numbers
    scaled = bool(wanted.target_mean or wanted.target_std)
    line = (Affine(scale=scaling["std"], offset=scaling["mean"]),) if scaled else ()
    return _one(Regress(values=values, inverse_transform=(*line, *inverse)), "none", VALUES, count)


def _main(value: Any, task: TaskName, name: str) -> Tensor:
    main = main_output(value)
    dimensions = {"segment": (4,), "regress": (1, 2), "binary": (1, 2), "tokens": (2, 3)}.get(task, (2,))
    # Token numbers are whole, and a logit for each of them is not.
    if (
        main is not None
        and main.ndim in dimensions
        and (task != "tokens" or main.is_floating_point() == (main.ndim == 3))
    ):
        return main
    expected = {
        4: "[batch, classes, height, width]",
        3: "of token numbers [batch, steps], or of logits [batch, steps, vocabulary]",
        2: "[batch, classes]",
    }[dimensions[-1]]
    kind = {"classify": "a classifier"}.get(task, f"fit for --task {task}")
    got = list(main.shape) if main is not None else type(value).__name__
    raise ConversionError(
        f"'{name}': not {kind}: expected one output {expected}, got {got}. "
        "Name what it gives with --task, or wrap it in a module whose forward returns that output."
    )


def _check_finite(logits: Sequence[Tensor], name: str) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in logits):
        raise ParityError(
            f"'{name}': the eager model itself gives NaN or infinity. Check the checkpoint's weights and the "
            "transform's mean and std."
        )


def _softmax_or_none(logits: Tensor) -> Activation:
    """Return what turns the network's output into probabilities: nothing, where it ends in a softmax already."""
    sums = logits.sum(dim=-1)
    are_probabilities = bool((logits >= 0).all()) and bool(((sums - 1).abs() < _PROBABILITY_SUM).all())
    return "none" if are_probabilities else "softmax"


def palette(count: int) -> list[tuple[int, int, int]]:
    """Return colors that differ for ``count`` classes, black first: the map of the Pascal VOC development kit."""
    colors = []
    for index in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colors.append((channels[0], channels[1], channels[2]))
    return colors


def output_info(output: Output) -> onnx.ValueInfoProto:
    """Return an output as the graph declares it."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(output.dtype))
    return onnx.helper.make_tensor_value_info(output.name, kind, list(output.shape))

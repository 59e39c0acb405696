"""Regression: named numbers in their own units, with the target's transform undone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.conversion.network_io import Arrays
from exporter.conversion.node_builder import NodeBuilder
from exporter.errors import ExportError
from exporter.options.task import TaskOptions
from exporter.outputs.interpreter import NO_PARTS, ReferenceInterpreter, largest_difference, to_words
from exporter.outputs.postprocessing import LOGITS, Postprocessing, check_finite, main_outputs, to_rows
from exporter.outputs.target_inverse import inverse_module, inverse_nodes
from runtime.manifest import Affine, InverseStep, Output, Regress, Value
from runtime.outputs.metrics import Scores
from runtime.outputs.regress import Estimate

VALUES = "values"


class RegressReference(ReferenceInterpreter):
    """Gives eager's values their names."""

    task: Regress

    def expected_result(self, outputs: Arrays, parts: Arrays = NO_PARTS) -> Arrays:
        """Return names and values."""
        del parts
        (scores,) = (array[0] for array in outputs.values())
        return {"names": to_words([value.name for value in self.task.values]), "values": scores.astype(np.float32)}

    def scores_of(self, result: Estimate, outputs: Sequence[Output]) -> Arrays:
        """Return the values in their order."""
        numbers = [result.values[value.name] for value in self.task.values]
        return {outputs[0].name: np.array([numbers], dtype=np.float32)}

    def differences(self, scored: Scores, eager: Scores) -> dict[str, float | int]:
        """Return the largest difference of a value."""
        return {"largest difference of a value": largest_difference(scored, eager)}


@dataclass(frozen=True, kw_only=True)
class RegressPostprocessing(Postprocessing):
    """Values in their own units, float32 [batch, values]."""

    task: Regress
    interpreter = RegressReference

    @classmethod
    def infer(
        cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str
    ) -> "RegressPostprocessing":
        """Return what undoes the target's transform, for an output [batch, values] or [batch]."""
        del labels_file
        tensors = main_outputs(
            values, dimensions=(1, 2), expected="[batch, values]", kind="fit for --task regress", name=name
        )
        check_finite(tensors, name)
        count = to_rows(tensors).shape[1]
        named = options.values or tuple(
            Value(name="value" if count == 1 else f"value {index}") for index in range(count)
        )
        if len(named) != count:
            raise ExportError(
                f"values: expected {count} names, one per output of the network, got {len(named)}. Correct --values."
            )
        inverse = options.target_transform if isinstance(options.target_transform, tuple) else ()
        for step in inverse:
            fitted = len(step.scale if isinstance(step, Affine) else step.lambdas)
            if fitted not in (0, count):
                raise ExportError(
                    f"--target-transform: fitted on {fitted} values: expected {count}, one per output of the network. "
                    "Give the transform that the target went through."
                )
        task = Regress(values=named, inverse_transform=(*_scaling(options, count), *inverse))
        output = Output(name=VALUES, dtype="float32", shape=("batch", count))
        return cls(task=task, activation="none", outputs=(output,))

    @classmethod
    def options_of(cls, task: Regress, value: Any) -> TaskOptions:
        """Return the task with its values and all that is undone."""
        del value
        return TaskOptions(task="regress", values=task.values, target_transform=task.inverse_transform)

    @property
    def computes(self) -> bool:
        """Whether the target's transform is undone."""
        return super().computes or bool(self.task.inverse_transform)

    @property
    def finding(self) -> str:
        """What was added, in words."""
        return "the target's transform undone" if self.computes else "outputs as they are"

    def module(self) -> nn.Module:
        """Return the inverse transform as a module that TorchScript can compile."""
        return _Inverse(self.task.inverse_transform)

    def add_nodes(self, nodes: NodeBuilder) -> None:
        """Append the inverse transform of [batch, values]."""
        steps, output = self.task.inverse_transform, self.outputs[0].name
        shape = nodes.integers(-1, len(self.task.values))
        if steps:
            inverse_nodes(nodes, steps, nodes.add("Reshape", LOGITS, shape), output=output)
        else:
            nodes.add("Reshape", LOGITS, shape, output=output)


def _scaling(options: TaskOptions, count: int) -> tuple[Affine, ...]:
    """Return the step that undoes the target's scaling; none where it was not scaled."""
    scaling: dict[str, tuple[float, ...]] = {}
    for option, numbers, default in (("mean", options.target_mean, 0.0), ("std", options.target_std, 1.0)):
        scale = numbers or (default,)
        scale = scale * count if len(scale) == 1 else scale
        if len(scale) != count or not np.isfinite(scale).all() or (option == "std" and 0.0 in scale):
            raise ExportError(
                f"--target-{option}: expected {count} finite numbers, one per value, or one for all, got "
                f"{', '.join(f'{number:g}' for number in scale[:10])}. Give those that the target was scaled with."
            )
        scaling[option] = scale
    if not (options.target_mean or options.target_std):
        return ()
    return (Affine(scale=scaling["std"], offset=scaling["mean"]),)


class _Inverse(nn.Module):
    """The target's transform undone, in float64; without one, the main output."""

    def __init__(self, steps: Sequence[InverseStep]) -> None:
        super().__init__()
        self.inverts = bool(steps)
        self.inverse_transform = inverse_module(steps)

    def forward(self, logits: Tensor) -> Tensor:
        """Return the artifact's output."""
        if self.inverts:
            values = logits.reshape(logits.size(0), -1).to(torch.float64)
            inverse_transform: Tensor = self.inverse_transform(values)
            return inverse_transform.to(logits.dtype)
        return logits.unsqueeze(1) if logits.dim() == 1 else logits

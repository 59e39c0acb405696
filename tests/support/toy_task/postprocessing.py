"""Exporter side of the task: postprocessing and what eager's outputs mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.toy_task.manifest import Embed
from torch import Tensor, nn

from exporter.conversion.node_builder import NodeBuilder
from exporter.options.task import TaskOptions
from exporter.outputs.interpreter import NO_PARTS, ReferenceInterpreter
from exporter.outputs.postprocessing import LOGITS, Postprocessing, check_finite, main_outputs
from runtime.manifest import Output


class EmbedReference(ReferenceInterpreter):
    def expected_result(
        self, outputs: Mapping[str, NDArray[Any]], parts: Mapping[str, NDArray[Any]] = NO_PARTS
    ) -> Mapping[str, NDArray[Any]]:
        return {"vector": outputs["embedding"][0]}

    def scores_of(self, result: Any, outputs: Sequence[Output]) -> Mapping[str, NDArray[Any]]:
        return {outputs[0].name: result.vector[np.newaxis]}


@dataclass(frozen=True, kw_only=True)
class EmbedPostprocessing(Postprocessing):
    interpreter = EmbedReference
    finding = "scaled to length one"
    computes = True

    @classmethod
    def infer(
        cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str
    ) -> "EmbedPostprocessing":
        tensors = main_outputs(
            values, dimensions=(2,), expected="[batch, dimensions]", kind="fit for --task embed", name=name
        )
        check_finite(tensors, name)
        dimensions = tensors[0].shape[1]
        output = Output(name="embedding", dtype="float32", shape=("batch", dimensions))
        return cls(task=Embed(dimensions=dimensions), activation="none", outputs=(output,))

    @classmethod
    def options_of(cls, task: Any, value: Any) -> TaskOptions:
        return TaskOptions(task="embed")

    def module(self) -> nn.Module:
        return _Normalize()

    def add_nodes(self, nodes: NodeBuilder) -> None:
        nodes.add("LpNormalization", LOGITS, axis=-1, p=2, output=self.outputs[0].name)


class _Normalize(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits / logits.norm(dim=-1, keepdim=True)

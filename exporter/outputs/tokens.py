"""Token sequences: token numbers of each step, up to the end token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporter.conversion.network_io import Arrays
from exporter.conversion.node_builder import NodeBuilder
from exporter.options.task import TaskOptions
from exporter.outputs.interpreter import NO_PARTS, ReferenceInterpreter, to_words
from exporter.outputs.labels import LabelSource, describe_labels, read_vocabulary
from exporter.outputs.postprocessing import LOGITS, Named, Postprocessing, main_outputs, not_fitting
from runtime.manifest import Labels, Output, Tokens
from runtime.outputs.tokens import TokenSequence

SEQUENCE = "sequence"

_EXPECTED = "of token numbers [batch, steps], or of logits [batch, steps, vocabulary]"
_KIND = "fit for --task tokens"


class TokensReference(ReferenceInterpreter):
    """Gives eager's token numbers their words."""

    task: Tokens

    def expected_result(self, outputs: Arrays, parts: Arrays = NO_PARTS) -> Arrays:
        """Return the tokens before the end token, and their words."""
        del parts
        (scores,) = (array[0] for array in outputs.values())
        tokens, labels = _before_end(scores, self.task.end_id), self.labels
        words = [labels[token] if 0 <= token < len(labels) else f"#{token}" for token in tokens] if labels else []
        return {"tokens": tokens.astype(np.int64), "words": to_words(words)}

    def scores_of(self, result: TokenSequence, outputs: Sequence[Output]) -> Arrays:
        """Return the token numbers."""
        return {outputs[0].name: np.array([result.tokens], dtype=np.int64)}

    def split_batch(self, arrays: Arrays, outputs: Sequence[Output], count: int) -> list[Arrays]:
        """Return a batch's sequences, each up to its own end token, not to the batch's longest."""
        del outputs
        return [
            {name: _before_end(array[row], self.task.end_id)[np.newaxis] for name, array in arrays.items()}
            for row in range(count)
        ]


@dataclass(frozen=True, kw_only=True)
class TokensPostprocessing(Postprocessing):
    """Token numbers, int64 [batch, steps]; ``classes`` is how many there are, 0 where the network tells no logits."""

    task: Tokens
    classes: int = 0
    interpreter = TokensReference
    stepwise = True

    @classmethod
    def infer(
        cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str
    ) -> "TokensPostprocessing":
        """Return the likeliest token of each step for logits, and nothing for token numbers."""
        del labels_file
        tensors = main_outputs(values, dimensions=(2, 3), expected=_EXPECTED, kind=_KIND, name=name)
        for value, tensor in zip(values, tensors, strict=True):
            # Token numbers are whole, and a logit for each of them is not.
            if tensor.is_floating_point() != (tensor.ndim == 3):
                raise not_fitting(tensor, value, expected=_EXPECTED, kind=_KIND, name=name)
        return cls(
            task=Tokens(end_id=options.end_id),
            activation="argmax" if tensors[0].is_floating_point() else "none",
            outputs=(Output(name=SEQUENCE, dtype="int64", shape=("batch", "steps")),),
            classes=tensors[0].shape[-1] if tensors[0].is_floating_point() else 0,
        )

    @classmethod
    def options_of(cls, task: Tokens, value: Any) -> TaskOptions:
        """Return the task with its end token."""
        del value
        return TaskOptions(task="tokens", end_id=task.end_id)

    @property
    def finding(self) -> str:
        """What was added, in words."""
        return "the likeliest token at each step" if self.computes else "outputs as they are"

    def expect(self, value: Any, dtype: torch.dtype = torch.float32) -> Named:
        """Return the tokens before the end token; the numbers of tokens have no other type."""
        del dtype
        tokens = self.module()(self.main(value))
        return {self.outputs[0].name: _before_end(tokens[0].numpy(), self.task.end_id)[np.newaxis]}

    def expect_inner(self, value: Any, dtype: torch.dtype = torch.float32) -> Named:
        """Return the network's logits up to and with the end token.

        What follows is padding, which a loop in the graph may leave out.
        """
        if not self.computes:
            return self.expect(value)
        steps = self.expect(value)[self.outputs[0].name].shape[1] + 1
        return {LOGITS: self.main(value)[:, :steps].to(dtype).numpy()}

    def module(self) -> nn.Module:
        """Return the choice of tokens as a module that TorchScript can compile."""
        return _Likeliest()

    def add_nodes(self, nodes: NodeBuilder) -> None:
        """Append the choice of tokens."""
        output = self.outputs[0].name
        if self.activation == "argmax":
            nodes.add("ArgMax", LOGITS, axis=-1, keepdims=0, output=output)
        else:
            nodes.add("Cast", LOGITS, to=onnx.TensorProto.INT64, output=output)

    def read_labels(
        self, source: LabelSource | None, assume: Callable[[int], tuple[tuple[str, ...], str]]
    ) -> tuple[tuple[str, ...], str]:
        """Return the words that the user gave, and where they are from; without one there are none.

        One word with a character for each class is a vocabulary of characters.
        """
        del assume
        if source is None:
            return (), "no --labels: token numbers stay numbers"
        words = read_vocabulary(source)
        if len(words) == 1 and len(words[0]) == self.classes > 1:
            words = tuple(words[0])
        return words, describe_labels(words, source)

    def own_labels(self, source: LabelSource | None, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the words that the user gave; ``labels`` where there are none."""
        return tuple(labels) if source is None else self.read_labels(source, lambda _classes: ((), ""))[0]

    def with_labels(self, labels: Sequence[str], *, file: str) -> "TokensPostprocessing":
        """Return the postprocessing with the words that ``file`` of the artifact holds, if there are any."""
        if not labels:
            return self
        task = msgspec.structs.replace(self.task, labels=Labels(file=file, count=len(labels)))
        return replace(self, task=task)


class _Likeliest(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits.argmax(dim=-1) if logits.is_floating_point() else logits.to(torch.int64)


def _before_end(tokens: NDArray[Any], end_id: int | None) -> NDArray[Any]:
    """Return the tokens before the first end token; the runtime has code of its own for it."""
    numbers = tokens.tolist()
    return tokens[: numbers.index(end_id)] if end_id in numbers else tokens

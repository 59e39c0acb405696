"""Several heads: columns of the network's outputs, each with a task and an activation of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from exporter.conversion.network_io import Arrays, batch_first, take_apart
from exporter.conversion.node_builder import NodeBuilder
from exporter.errors import ConversionError, ExportError
from exporter.options.heads import HeadOptions
from exporter.options.task import TaskOptions
from exporter.outputs.interpreter import NO_PARTS, Decision, ReferenceInterpreter
from exporter.outputs.labels import LabelSource
from exporter.outputs.postprocessing import LOGITS, Named, Postprocessing
from exporter.outputs.registry import infer_postprocessing, open_reference, options_of_task
from runtime.manifest import Head, Heads, Labels, Output, Value
from runtime.outputs.heads import HeadResults


class HeadsReference(ReferenceInterpreter):
    """Gives eager's scores of each head their meaning."""

    task: Heads
    unit = "probability"
    inner_unit = "logits"

    def __init__(self, task: Heads, labels: Sequence[str]) -> None:
        super().__init__(task, labels)
        self._heads: dict[str, ReferenceInterpreter] = {}
        start = 0
        for head in task.heads:
            # The runtime has code of its own for it.
            end = start + (head.task.labels.count if head.task.labels is not None else 0)
            self._heads[head.name] = open_reference(head.task, labels[start:end])
            start = end

    def decide_all(self, actual: Arrays, expected: Arrays, outputs: Sequence[Output]) -> Decision | None:
        """Return the decisions of all heads as one: the share of equal ones, and the worst flip of any."""
        del outputs
        decisions = {
            name: decision
            for name, head in self._heads.items()
            if actual[name].shape == expected[name].shape
            and (decision := head.decide(actual[name], expected[name])) is not None
        }
        if not decisions:
            return None
        top_k = [decision.top_k for decision in decisions.values() if decision.top_k is not None]
        agreement = sum(decision.agreement for decision in decisions.values()) / len(decisions)
        flips = {name: decision for name, decision in decisions.items() if decision.margin is not None}
        combined = Decision(agreement=agreement, top_k=min(top_k) if top_k else None)
        if not flips:
            return combined
        name = max(flips, key=lambda name: flips[name].margin or 0.0)
        worst = flips[name]
        return replace(combined, margin=worst.margin, expected=f"{name} {worst.expected}", got=f"{name} {worst.got}")

    def expected_result(self, outputs: Arrays, parts: Arrays = NO_PARTS) -> Arrays:
        """Return the result of each head, as ``head.name``."""
        del parts
        return {
            f"{name}.{key}": array
            for name, head in self._heads.items()
            for key, array in head.expected_result({name: outputs[name]}).items()
        }

    def scores_of(self, result: HeadResults, outputs: Sequence[Output]) -> Arrays:
        """Return the scores of each head."""
        scores: dict[str, Any] = {}
        for output in outputs:
            scores |= self._heads[output.name].scores_of(result.heads[output.name], [output])
        return scores

    def differences(self, scored: Any, eager: Any) -> dict[str, float | int]:
        """Return how far each head's scores are from eager's, as ``head: what``."""
        return {
            f"{name}: {what}": number
            for name, head in self._heads.items()
            for what, number in head.differences(
                replace(scored, scores=scored.scores[name]), replace(eager, scores=eager.scores[name])
            ).items()
        }


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One head: its columns of one of the network's outputs, and what follows them; all columns without ``cut``."""

    head: Head
    cut: bool
    postprocessing: Postprocessing
    labels: Path | None = None

    def columns(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the head's own columns of the network's outputs, [batch, columns]."""
        return _columns(tensors[self.head.output], self.head.start, self.head.stop)


@dataclass(frozen=True, kw_only=True)
class HeadsPostprocessing(Postprocessing):
    """Scores of each head, float32 [batch, scores]; ``sources`` are all of the network's outputs."""

    task: Heads
    sources: tuple[str, ...]
    heads: tuple[_Part, ...]
    interpreter = HeadsReference
    whole = True

    @classmethod
    def infer(
        cls, values: Sequence[Any], options: TaskOptions, *, labels_file: str, name: str
    ) -> "HeadsPostprocessing":
        """Return the postprocessing of each head that the options describe; without any, of each output."""
        tensors = [take_apart(value)[1] for value in values]
        described = options.heads or _heads_of(tensors[0], name)
        parts = tuple(_part(head, tensors, labels_file=labels_file, name=name) for head in described)
        classes = sum(part.head.task.labels.count for part in parts if part.head.task.labels is not None)
        labels = Labels(file=labels_file, count=classes) if classes else None
        return cls(
            task=Heads(heads=tuple(part.head for part in parts), labels=labels),
            activation="none",
            outputs=tuple(part.postprocessing.outputs[0] for part in parts),
            sources=tuple(tensors[0]),
            heads=parts,
        )

    @classmethod
    def options_of(cls, task: Heads, value: Any) -> TaskOptions:
        """Return the task with its heads."""
        tensors = take_apart(value)[1]
        heads = []
        for head in task.heads:
            own = None
            if head.output in tensors:
                own = options_of_task(head.task, _columns(tensors[head.output], head.start, head.stop)).task
            heads.append(HeadOptions(name=head.name, task=own, output=head.output, start=head.start, stop=head.stop))
        return TaskOptions(task="heads", heads=tuple(heads))

    @property
    def finding(self) -> str:
        """What was added, in words."""
        return "; ".join(f"{part.head.name}: {part.postprocessing.finding}" for part in self.heads)

    @property
    def parts(self) -> tuple[Postprocessing, ...]:
        """The postprocessing of each head."""
        return tuple(part.postprocessing for part in self.heads)

    @property
    def computes(self) -> bool:
        """Whether anything is computed after the network: columns that are cut out, or an activation."""
        return any(part.cut or part.postprocessing.computes for part in self.heads)

    @property
    def inner_names(self) -> tuple[str, ...]:
        """The names of the network's outputs inside the graph."""
        return tuple(f"{LOGITS}/{source}" for source in self.sources)

    def module(self) -> nn.Module:
        """Return the postprocessing of all heads as a module that can be traced."""
        return _Heads(self)

    def add_nodes(self, nodes: NodeBuilder) -> None:
        """Append the nodes of each head: its columns, and its own postprocessing of them."""
        for part in self.heads:
            source = f"{LOGITS}/{part.head.output}"
            if part.cut:
                start, stop = nodes.integers(part.head.start), nodes.integers(part.head.stop)
                source = nodes.add("Slice", source, start, stop, nodes.integers(1))
            own = NodeBuilder(f"{nodes.prefix}/{part.head.name}")
            part.postprocessing.add_nodes(own)
            for node in own.nodes:
                node.input[:] = [source if name == LOGITS else name for name in node.input]
            nodes.nodes += own.nodes
            nodes.constants |= own.constants

    def expect(self, value: Any, dtype: torch.dtype = torch.float32) -> Named:
        """Return the scores of each head."""
        return self._outputs(self._tensors(value), dtype)

    def expect_inner(self, value: Any, dtype: torch.dtype = torch.float32) -> Named:
        """Return all tensors that the eager network returned; the scores where nothing follows them."""
        if not self.computes:
            return self.expect(value, dtype)
        return self._inner(self._tensors(value), dtype)

    def expect_rows(self, value: Any, count: int) -> tuple[list[Named], list[Named]]:
        """Return the same for each of ``count`` inputs that shared a batch."""
        tensors = {name: tensor for name, tensor in self._tensors(value).items() if tensor.shape[:1] == (count,)}
        alone = [head.output for head in self.task.heads if head.output not in tensors]
        if alone:
            raise ConversionError(f"its output '{alone[0]}' has no row for each of {count} inputs")
        rows = [{name: tensor[row : row + 1] for name, tensor in tensors.items()} for row in range(count)]
        outputs = [self._outputs(row, torch.float32) for row in rows]
        return [self._inner(row, torch.float32) for row in rows] if self.computes else outputs, outputs

    def activate(self, inner: Named, dtype: torch.dtype = torch.float32) -> Named:
        """Return the scores of each head for the network's own outputs, as ``expect_inner`` gives them."""
        tensors = {name: torch.from_numpy(inner[f"{LOGITS}/{name}"]) for name in self.sources}
        return self._outputs(tensors, dtype)

    def read_labels(
        self, source: LabelSource | None, assume: Callable[[int], tuple[tuple[str, ...], str]]
    ) -> tuple[tuple[str, ...], str]:
        """Return the class names of all heads, one head after the other, and where they are from."""
        del source  # each head has its own
        names: list[str] = []
        findings = []
        for part in self.heads:
            if part.head.task.labels is None:
                continue
            own, finding = part.postprocessing.read_labels(part.labels, assume)
            names += own
            findings.append(f"{part.head.name}: {finding}")
        return tuple(names), "; ".join(findings) or "none: no head has classes"

    def own_labels(self, source: LabelSource | None, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the same, as far as the user gave a file for a head; ``labels`` are for the other heads."""
        del source
        names: list[str] = []
        for part in self.heads:
            end = len(names) + (part.head.task.labels.count if part.head.task.labels is not None else 0)
            names += part.postprocessing.own_labels(part.labels, labels[len(names) : end])
        return tuple(names)

    def _tensors(self, value: Any) -> dict[str, Tensor]:
        return batch_first(take_apart(value)[1], self.batch_axes)

    def _inner(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Named:
        return {
            f"{LOGITS}/{name}": (tensor.to(dtype) if tensor.is_floating_point() else tensor).numpy()
            for name, tensor in tensors.items()
        }

    def _outputs(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Named:
        return {
            name: array
            for part in self.heads
            for name, array in part.postprocessing.expect(part.columns(tensors), dtype).items()
        }


class _Heads(nn.Module):
    """The network's outputs, in order, to the scores of each head."""

    def __init__(self, postprocessing: HeadsPostprocessing) -> None:
        super().__init__()
        self.sources = postprocessing.sources
        self.places = [(part.head.output, part.head.start, part.head.stop) for part in postprocessing.heads]
        self.parts = nn.ModuleList(part.postprocessing.module() for part in postprocessing.heads)

    def forward(self, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the scores of each head."""
        tensors = dict(zip(self.sources, values, strict=True))
        return tuple(
            module(_columns(tensors[output], start, stop))
            for module, (output, start, stop) in zip(self.parts, self.places, strict=True)
        )


def _columns(tensor: Tensor, start: int, stop: int) -> Tensor:
    rows = tensor.unsqueeze(1) if tensor.ndim == 1 else tensor
    return rows[:, start:stop]


def _heads_of(tensors: Mapping[str, Tensor], name: str) -> tuple[HeadOptions, ...]:
    """Return a head for each output of the network.

    Raises ExportError for a network of one output: only the user knows its parts.
    """
    if len(tensors) == 1:
        raise ExportError(
            f"--heads: '{name}' has one output: expected the columns of each head. Name them, as in "
            "--heads race=0:7@race.txt,gender=7:9@gender.txt."
        )
    return tuple(HeadOptions(name=output) for output in tensors)


def _part(options: HeadOptions, tensors: Sequence[Mapping[str, Tensor]], *, labels_file: str, name: str) -> _Part:
    """Return one head, inferred from its columns of what the eager network ``name`` returned for each case."""
    subject = f"--heads: '{options.name}'"
    output = options.output or (options.name if options.name in tensors[0] else "")
    if not output and len(tensors[0]) == 1:
        (output,) = tensors[0]
    if output not in tensors[0]:
        known = ", ".join(f"'{known}'" for known in tensors[0])
        raise ExportError(
            f"{subject}: no output '{output or options.name}': '{name}' returns {known}. Name one of these: "
            f"{options.name}=OUTPUT."
        )
    shape = list(tensors[0][output].shape)
    if len(shape) not in (1, 2):
        raise ConversionError(
            f"'{name}': output '{output}' is no head: expected [batch, columns], got {shape}. Leave it out of --heads, "
            "or use --task raw."
        )
    width = shape[1] if len(shape) > 1 else 1
    start, stop = options.start or 0, width if options.stop is None else options.stop
    if stop > width:
        raise ExportError(
            f"{subject}: columns {start}:{stop} of '{output}': expected at most {width}, as the output is {shape}. "
            "Correct them."
        )
    if options.task is None and stop - start == 1:
        raise ExportError(
            f"{subject}: one column: its task cannot be seen. Pass {options.name}:binary for the logit of the "
            f"second of two classes, or {options.name}:regress for a number."
        )
    # Names of values are the head's own where there is one.
    values = (Value(name=options.name),) if options.task == "regress" and stop - start == 1 else ()
    inferred = infer_postprocessing(
        [_columns(each[output], start, stop) for each in tensors],
        TaskOptions(task=options.task, values=values),
        labels_file=labels_file,
        name=f"{name}, head {options.name}",
    )
    task: Any = inferred.task  # of one of HEAD_TASKS
    named = replace(inferred, outputs=(msgspec.structs.replace(inferred.outputs[0], name=options.name),))
    return _Part(
        head=Head(name=options.name, output=output, start=start, stop=stop, task=task),
        cut=(start, stop) != (0, width),
        postprocessing=named,
        labels=options.labels,
    )

"""Comparison of things as wholes: an artifact's labels, task and inputs with those that the user named."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from exporter.options.stated import flags_of_field, stating_remedy
from exporter.parity.verdict import WHOLE, judge
from runtime.artifact.open import Artifact
from runtime.evidence import Evidence, Row, Stage, WholeCheck
from runtime.manifest import LAYOUT, Input, Task

LENGTHS_FLAG = "--lengths"

# What of a task is computed in the graphs; the rest is the meaning of the scores.
_COMPUTED = ("kind", "inverse_transform", "heads")


def check_labels(artifact: Artifact, labels: Sequence[str]) -> WholeCheck:
    """Return the check of every label of the artifact, in order, with the user's own ``labels``."""
    return check_list(labels, artifact.labels(), subject="labels", path=LAYOUT.labels, stage="labels", fault="label")


def check_list(
    expected: Sequence[str], actual: Sequence[str], *, subject: str, path: str, stage: Stage, fault: Any = "value"
) -> WholeCheck:
    """Return the check of two lists, line by line."""
    finding = ""
    if len(actual) != len(expected):
        finding = f"expected {len(expected)}, got {len(actual)}"
    wrong = [index for index, pair in enumerate(zip(expected, actual, strict=False)) if pair[0] != pair[1]]
    if wrong:
        index = wrong[0]
        finding += f"{'; ' if finding else ''}{len(wrong)} of {len(expected)} differ, the first at index {index}: "
        finding += f"expected '{expected[index]}', got '{actual[index]}'"
    return WholeCheck(
        subject=subject,
        path=path,
        stage=stage,
        count=len(expected),
        fault=fault if finding else None,
        finding=f"the {subject}: {finding}; {stating_remedy(flags_of_field(subject))}" if finding else "",
    )


def check_task(expected: Task, actual: Task) -> Iterator[WholeCheck]:
    """Yield the checks of a task with the one that the user named: its kind, and everything that the kind has."""
    facts = [_facts(task) for task in (expected, actual)]
    for stage, is_part in _PARTS_OF_TASK.items():
        parts = [{name: value for name, value in one.items() if is_part(name)} for one in facts]
        if parts[0] or parts[1]:
            subject = "task" if stage == "activation" else "meaning of the scores"
            yield _check_facts(*parts, subject=subject, stage=stage)


def check_task_name(expected: str | None, actual: str | None) -> WholeCheck:
    """Return the check of an artifact's task, as --task names it, with the one that the user stated, if any."""
    facts = [{"kind": name} for name in (expected or actual, actual)]
    return _check_facts(*facts, subject="task", stage="activation")


def check_inputs(expected: Sequence[Input], actual: Sequence[Input], *, stage: Stage) -> Iterator[WholeCheck]:
    """Yield the checks of inputs with those of the user's own preprocessing and options."""
    if len(expected) != len(actual):
        yield _check_facts({"inputs": len(expected)}, {"inputs": len(actual)}, subject="inputs", stage=stage)
        return
    for one, other in zip(expected, actual, strict=True):
        yield _check_facts(_facts(one), _facts(other), subject=f"input '{one.name}'", stage=stage, kind=one.kind)


def describe_difference(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    """Return the first value that differs of a manifest's values by name, with its path; empty where none does."""
    return _difference(_facts(expected), _facts(actual))


def check_lengths(
    stated: Mapping[str, tuple[int, int]], ran: Mapping[str, Sequence[int]], artifact: Artifact, *, stage: Stage
) -> Iterator[WholeCheck]:
    """Yield the checks of the lengths that an artifact promises with those that --lengths states, where it does.

    ``ran`` are the lengths of this run, of which the eager model takes all, by the name of the dimension; '' stands
    for all dimensions in ``stated``.
    """
    for name, promise in artifact.manifest.compared.items():
        bounds, lengths = stated.get(name) or stated.get(""), ran.get(name, ())
        if bounds is None or not lengths:
            continue
        own = [length for length in lengths if bounds[0] <= length <= bounds[1]]
        wider = any(not promise.lowest <= length <= promise.highest for length in own)
        narrower = min(lengths) > promise.lowest or max(lengths) < promise.highest
        facts = [f"{low} to {high}" for low, high in ((min(lengths), max(lengths)), (promise.lowest, promise.highest))]
        expected = facts[0] if wider or narrower else facts[1]
        yield _check_facts({name: expected}, {name: facts[1]}, subject="lengths", stage=stage)


def with_checks(evidence: Evidence, checks: Sequence[WholeCheck], *, random: str = "") -> Evidence:
    """Return the evidence with things that were compared whole; each that differs is a row, and so fails."""
    rows = tuple(_row(check) for check in checks if check.fault is not None)
    return judge(
        msgspec.structs.replace(evidence, whole=(*evidence.whole, *checks), rows=(*evidence.rows, *rows)), random=random
    )


_PARTS_OF_TASK: Mapping[Stage, Callable[[str], bool]] = {
    "activation": lambda name: name.partition(".")[0].partition("[")[0] in _COMPUTED,
    "labels": lambda name: name.partition(".")[0].partition("[")[0] not in _COMPUTED,
}


def _facts(value: Any) -> dict[str, Any]:
    """Return the parts of a manifest's struct by their paths, such as ``columns[2].categories[0]``."""
    facts: dict[str, Any] = {}
    _add_facts(msgspec.to_builtins(value), "", facts)
    return facts


def _add_facts(value: Any, path: str, facts: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _add_facts(entry, f"{path}.{key}" if path else str(key), facts)
    elif isinstance(value, list | tuple) and value:
        for index, entry in enumerate(value):
            _add_facts(entry, f"{path}[{index}]", facts)
    # The names of an artifact's own files are no facts about the model.
    elif not path.endswith(("labels.file", "vocabulary", "tokenizer")):
        facts[path] = value


def _check_facts(
    expected: Mapping[str, Any], actual: Mapping[str, Any], *, subject: str, stage: Stage, kind: str = ""
) -> WholeCheck:
    names = _differing(expected, actual)
    finding = ""
    if names:
        flags = LENGTHS_FLAG if subject == "lengths" else flags_of_field(names[0], kind=kind)
        finding = f"{subject}: {_difference(expected, actual)}; {stating_remedy(flags)}"
    return WholeCheck(
        subject=subject,
        path=LAYOUT.manifest,
        stage=stage,
        count=len(expected),
        fault=("label" if stage == "labels" else "value") if names else None,
        finding=finding,
    )


def _differing(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    missing = object()
    return [name for name in {**expected, **actual} if expected.get(name, missing) != actual.get(name, missing)]


def _difference(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    names = _differing(expected, actual)
    if not names:
        return ""
    more = f", and {len(names) - 1} more differ" if len(names) > 1 else ""
    return f"'{names[0]}': expected {_shown(expected, names[0])}, got {_shown(actual, names[0])}{more}"


def _shown(facts: Mapping[str, Any], name: str) -> str:
    return msgspec.json.encode(facts[name]).decode() if name in facts else "none"


def _row(check: WholeCheck) -> Row:
    return Row(
        path=check.path,
        device="cpu",
        stage=check.stage,
        group=WHOLE,
        planned=0,
        inputs=0,
        fault=check.fault,
        finding=check.finding,
        worst_input=check.subject,
        unit="",
        difference=None,
        difference_p99=None,
        share=None,
        floor=None,
        limit=None,
    )

"""Heads of a network, as options describe them."""

import re
from dataclasses import dataclass
from pathlib import Path

# Tasks that a head may have.
HEAD_TASKS = ("classify", "binary", "multilabel", "regress")

FORM = "NAME[:TASK][=[OUTPUT][START:STOP]][@LABELS],..."

_HEAD = re.compile(r"(?P<name>[\w.-]+)(:(?P<task>\w+))?(=(?P<columns>[^@]*))?(@(?P<labels>.+))?")
_COLUMNS = re.compile(r"(?P<output>[\w.-]*?):?((?P<start>\d+):(?P<stop>\d+))?")


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """One head: columns of an output of the network, and what they mean.

    Without ``output`` it is the output of the head's name, or the only one; without ``start`` and ``stop`` all of its
    columns. ``labels`` is the file of its class names, ``task`` one of HEAD_TASKS, by default classify.
    """

    name: str
    task: str | None = None
    output: str = ""
    start: int | None = None
    stop: int | None = None
    labels: Path | None = None


def read_heads(text: str) -> tuple[HeadOptions, ...]:
    """Return the heads that a text such as ``race=0:7@race.txt,age:regress=7:8`` describes."""
    heads = tuple(_read(part.strip()) for part in text.split(","))
    names = [head.name for head in heads]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"expected a name of its own for each head, got '{twice[0]}' twice")
    return heads


def _read(text: str) -> HeadOptions:
    match = _HEAD.fullmatch(text)
    columns = _COLUMNS.fullmatch(match["columns"] or "") if match is not None else None
    if match is None or columns is None:
        raise ValueError(f"expected {FORM} such as race=0:7@race.txt, got '{text}'")
    if match["task"] is not None and match["task"] not in HEAD_TASKS:
        raise ValueError(f"expected one of the tasks {', '.join(HEAD_TASKS)} for a head, got '{match['task']}'")
    start, stop = (int(columns[end]) if columns[end] is not None else None for end in ("start", "stop"))
    if start is not None and stop is not None and start >= stop:
        raise ValueError(f"expected columns START:STOP with START before STOP, got '{columns['start']}:{stop}'")
    return HeadOptions(
        name=match["name"],
        task=match["task"],
        output=columns["output"],
        start=start,
        stop=stop,
        labels=Path(match["labels"]) if match["labels"] else None,
    )

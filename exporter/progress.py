"""Progress of an export or a parity check: its steps, and what each of them found."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias

import msgspec

from exporter.checkpoint import Checkpoint
from runtime.errors import listed
from runtime.evidence import Evidence, Row
from runtime.manifest import KeyTransform


class Step(msgspec.Struct, kw_only=True):
    """One step: its name, how long it took, and what it found, in words."""

    name: str
    seconds: float = 0.0
    finding: str = ""


# Called with how many inputs of a step are done, of how many.
Advance: TypeAlias = Callable[[int, int], None]


class Count:
    """How many inputs of the running step are done; ``advance`` hears of it before each one."""

    def __init__(self, advance: Advance | None, planned: int) -> None:
        self._advance = advance
        self._planned = planned
        self._done = 0

    def next(self) -> None:
        """Pass on that one more input begins."""
        if self._advance is not None and self._done < self._planned:
            self._advance(self._done, self._planned)
        self._done += 1

    def skip_to(self, done: int) -> None:
        """Take ``done`` inputs as done: what needs no run of its own counts as well."""
        self._done = done


class ProgressListener(Protocol):
    """Receiver of the progress of an export or a parity check, such as a terminal or a log."""

    def started(self, name: str) -> None:
        """Handle the start of a step."""

    def advanced(self, name: str, done: int, planned: int) -> None:
        """Handle that ``done`` of a step's ``planned`` inputs or comparisons are done; many steps count none."""

    def finished(self, step: Step) -> None:
        """Handle the end of a step that succeeded; a failed one raises instead."""


class Progress:
    """The finished steps; a listener is called as each begins and ends."""

    def __init__(self, listener: ProgressListener | None) -> None:
        self.done: list[Step] = []
        self._listener = listener
        self._running = ""

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a block; it writes what it found into the step that it is given."""
        self._running = name
        if self._listener:
            self._listener.started(name)
        step = Step(name=name)
        start = time.perf_counter()
        yield step
        step.seconds = time.perf_counter() - start
        self.done.append(step)
        if self._listener:
            self._listener.finished(step)

    def advance(self, done: int, planned: int) -> None:
        """Pass on how far the running step is."""
        if self._listener:
            self._listener.advanced(self._running, done, planned)


def describe_checkpoint(checkpoint: Checkpoint) -> str:
    """Return what was read, and which of its entries was taken."""
    choice = f" ({checkpoint.choice})" if checkpoint.choice else ""
    entry = f", under '{checkpoint.entry}'{choice}" if checkpoint.entry else ""
    if checkpoint.non_finite:
        entry += f"; NaN or infinity in {len(checkpoint.non_finite)} tensors, such as '{checkpoint.non_finite[0]}'"
    if checkpoint.skipped:
        entry += f"; objects of {listed([repr(name) for name in checkpoint.skipped], 4)} skipped"
    return (
        f"{checkpoint.path.name}, {megabytes(checkpoint.size_bytes)}: {len(checkpoint.tensors)} tensors, "
        f"{checkpoint.parameters / 1e6:.1f} million values{entry}"
    )


def describe_keys(keys: KeyTransform) -> str:
    """Return what was done to the checkpoint's keys, in words."""
    done = [
        *(f"'{name}' dropped" for name in keys.dropped),
        *([f"prefix '{keys.removed_prefix}' removed"] if keys.removed_prefix else []),
        *([f"prefix '{keys.added_prefix}' added"] if keys.added_prefix else []),
        *([f"{len(keys.renamed)} keys renamed"] if keys.renamed else []),
        *(f"'{place}' is {what}" for place, what in keys.replaced.items()),
        *([f"{len(keys.tied)} tied tensors filled in"] if keys.tied else []),
        *([f"{keys.filled_counters} num_batches_tracked filled in"] if keys.filled_counters else []),
        *(f"cast from {name}" for name in keys.cast_from),
        *([f"{len(keys.converted)} keys converted by the network's own code"] if keys.converted else []),
        *([f"left out: {listed([repr(key) for key in keys.ignored], 4)}"] if keys.ignored else []),
    ]
    return "".join(f", {what}" for what in done)


def describe_parity(evidence: Evidence, noun: str) -> str:
    """Return on how much the proof rests, and how close it was."""
    summary = evidence.summary()
    labels = "" if summary.label_agreement is None else f"labels {summary.label_agreement:.0%}, "
    return (
        f"{len(evidence.inputs)} {noun}, batches of {', '.join(map(str, evidence.batch_sizes))}: "
        f"{labels}at most {summary.ratio or 0.0:.2g} times eager's own noise; {evidence.max_ratio:g} are allowed"
    )


def describe_rows(rows: Sequence[Row]) -> str:
    """Return how many inputs were compared, on how many paths, and whether any of them failed."""
    if not rows:
        return "none"
    inputs: dict[tuple[str, str, str], int] = {}
    for row in rows:
        key = (row.path, row.device, row.stage)
        inputs[key] = inputs.get(key, 0) + row.inputs
    paths = len({row.path for row in rows})
    failed = sum(not row.passed for row in rows)
    found = "equal" if not any(row.difference for row in rows) else "within the limits"
    verdict = f"{failed} of {len(rows)} rows failed" if failed else found
    return f"{max(inputs.values())} inputs on {paths} path{'s' if paths > 1 else ''}: {verdict}"


def megabytes(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1e6:.1f} MB"

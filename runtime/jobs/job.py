"""Runs a job: inputs through an engine, rows into a journal, the journal into the file asked for."""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from runtime.errors import ArtifactError, InputError
from runtime.jobs.engines import Engine, Stop
from runtime.jobs.journal import JobDescription, Journal
from runtime.jobs.overlays import Overlays
from runtime.jobs.sources import Named
from runtime.jobs.writers import write_results
from runtime.manifest import LAYOUT
from runtime.results import Failure

# Between checks that the artifact is still the one that was loaded; rows of the last interval are dropped if it is not.
_CHECK_INTERVAL_S = 1.0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is: rows in all, failed ones among them, and whether every input has a row."""

    rows: int
    failed: int
    finished: bool


def describe_job(
    artifact: Path, inputs: tuple[str, ...], *, column: str | None, options: dict[str, float | int | str | None]
) -> JobDescription:
    """Return what makes this job the same as one that is to be resumed."""
    digest = hashlib.sha256((artifact / LAYOUT.manifest).read_bytes()).hexdigest()
    return JobDescription(manifest_sha256=digest, inputs=inputs, column=column, options=dict(options))


def skip_done(inputs: Iterator[Named], journal: Journal, *, overlays: Overlays | None = None) -> Summary:
    """Take the inputs whose rows are in the journal; raises InputError when they are not the ones it is of.

    ``overlays`` keep the names of the pictures that those rows have.
    """
    failed = 0
    for row in journal.recover():
        name = next(inputs, (None, None))[0]
        if name != row["input"]:
            got = "no more inputs" if name is None else f"'{name}'"
            raise InputError(
                f"'{journal.path}': the inputs have changed: expected '{row['input']}' as number {journal.rows}, "
                f"got {got}. Restore the inputs, or start again with --force."
            )
        failed += "error" in row
        if overlays is not None and "error" not in row:
            overlays.name(row["input"])
    return Summary(rows=journal.rows, failed=failed, finished=False)


def run_job(
    engine: Engine,
    inputs: Iterator[Named],
    journal: Journal,
    done: Summary,
    *,
    format_name: str,
    stop: Stop,
    on_row: Callable[[], None],
    overlays: Overlays | None = None,
) -> Summary:
    """Write a row for every input, in order, to the journal, and at the end all of them to its ``out``.

    ``done`` is what ``skip_done`` returned; ``overlays`` write the picture of a label map before its row. Stopped or
    failed, the journal stays, whole, to be resumed. Raises ArtifactError when the artifact changed while in use,
    OSError when a row cannot be written.
    """
    failed = done.failed
    checked = time.monotonic()
    try:
        results = engine.predict_each(inputs, skipped=done.rows, stop=stop)
        for result in results if overlays is None else overlays.write_each(results):
            journal.append(result.to_dict())
            failed += isinstance(result, Failure)
            on_row()
            now = time.monotonic()
            if now - checked > _CHECK_INTERVAL_S:
                engine.check_unchanged()
                journal.confirm()
                checked = now
        engine.check_unchanged()
    except ArtifactError:
        journal.roll_back()
        raise
    if stop.exhausted:
        journal.sync()
        write_results(format_name, journal.path, journal.out)
        journal.remove()
    return Summary(rows=journal.rows, failed=failed, finished=stop.exhausted)

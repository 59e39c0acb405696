"""Job execution: inputs through an engine, rows into a journal and a file."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runtime.errors import ArtifactError, InputError
from runtime.inputs.source import NamedInput, printable
from runtime.jobs.engines import Engine, Stop
from runtime.jobs.journal import Ended, JobDescription, Journal
from runtime.jobs.overlays import Overlays
from runtime.jobs.writers import write_results
from runtime.manifest import LAYOUT
from runtime.results import Failure

# Between checks that the artifact has not changed since it was loaded; rows of the last interval are dropped if it has.
_CHECK_INTERVAL_S = 1.0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a job: rows in all, failed ones among them, and whether every input has a row."""

    rows: int
    failed: int
    finished: bool


def describe_job(
    artifact: Path, inputs: tuple[str, ...], *, column: str | None, options: dict[str, float | int | str | None]
) -> JobDescription:
    """Return the identity of a job: a run with the same one can be resumed."""
    digest = hashlib.sha256((artifact / LAYOUT.manifest).read_bytes()).hexdigest()
    # Names may hold bytes that are not UTF-8, which JSON cannot.
    return JobDescription(
        manifest_sha256=digest,
        inputs=tuple(map(printable, inputs)),
        column=column and printable(column),
        options={name: printable(value) if isinstance(value, str) else value for name, value in options.items()},
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job: an engine whose rows go to a journal, and at the end to the journal's ``out``.

    ``overlays`` write the picture of a label map before its row.
    """

    engine: Engine
    journal: Journal
    stop: Stop
    format_name: str
    overlays: Overlays | None = None

    def skip_done(self, inputs: Iterator[NamedInput]) -> Summary:
        """Take the inputs whose rows are in the journal; raise InputError when they are not the journal's.

        The names of the pictures that those rows have are kept, so that no other picture takes them.
        """
        if self.journal.ended is not None:
            return Summary(rows=self.journal.ended.rows, failed=self.journal.ended.failed, finished=True)
        failed = 0
        for row in self.journal.recover():
            name = next(inputs, (None, None))[0]
            if name != row["input"]:
                got = "no more inputs" if name is None else f"'{name}'"
                raise InputError(
                    f"'{self.journal.path}': the inputs have changed: expected '{row['input']}' as number "
                    f"{self.journal.rows}, got {got}. Restore the inputs, or start again with --force."
                )
            failed += "error" in row
            if self.overlays is not None and "error" not in row:
                self.overlays.name(row["input"])
        return Summary(rows=self.journal.rows, failed=failed, finished=False)

    def run(self, inputs: Iterator[NamedInput], done: Summary, *, on_row: Callable[[], None]) -> Summary:
        """Write a row for every input, in order, to the journal, and at the end all of them to its ``out``.

        ``done`` is what ``skip_done`` returned; ``on_row`` is called after each row. Stopped or failed, the journal
        stays, whole, to be resumed. Raises ArtifactError when the artifact changed while in use, OSError when a row
        cannot be written.
        """
        if done.finished:  # killed after the result was in its place
            self.journal.finish(Ended(rows=done.rows, failed=done.failed))
            return done
        failed = done.failed
        checked = time.monotonic()
        try:
            results = self.engine.predict_each(inputs, skipped=done.rows, stop=self.stop)
            waited = self.stop.each(results)
            for result in waited if self.overlays is None else self.overlays.write_each(waited):
                self.journal.append(result.to_dict())
                failed += isinstance(result, Failure)
                on_row()
                now = time.monotonic()
                if now - checked > _CHECK_INTERVAL_S:
                    self.engine.check_unchanged()
                    self.journal.confirm()
                    checked = now
            self.engine.check_unchanged()
        except ArtifactError:
            self.journal.roll_back()
            raise
        if self.stop.exhausted:
            self.journal.sync()
            write_results(self.format_name, self.journal.path, self.journal.out)
            self.journal.finish(Ended(rows=self.journal.rows, failed=failed))
        return Summary(rows=self.journal.rows, failed=failed, finished=self.stop.exhausted)

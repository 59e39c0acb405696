"""Command 'truecopy predict': rows to stdout, or a job to a file."""

import io
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import msgspec
import typer

from runtime.console import is_closed
from runtime.engine.concurrency import batches
from runtime.errors import InputError, TruecopyError
from runtime.inputs.folders import LeftOut
from runtime.inputs.registry import source_format_of
from runtime.inputs.source import NamedInput
from runtime.jobs.engines import Engine, LocalEngine, Stop, open_engine
from runtime.jobs.options import JobOptions
from runtime.jobs.sources import count_inputs, read_sources
from runtime.manifest import FULL_PRECISION
from runtime.model import load
from runtime.results import Failure, Result, check_options

if TYPE_CHECKING:
    # A table of predictions, which a person waits for, needs no file.
    from runtime.jobs.journal import Journal
    from runtime.jobs.overlays import Overlays

# A table is printed page by page: the first rows come early, and not all rows are in memory.
_PAGE_ROWS = 200

# What the inputs in flight have to finish after a signal, and what is open to be closed after a second one.
_GRACE_S = 0.5

# Windows has no timer that interrupts the main thread: there, the runs are terminated by the signal itself.
_HAS_TIMER = hasattr(signal, "setitimer")

TO_STDOUT = ("table", "jsonl", "csv")


class Interruption:
    """The first signal asks the job to stop, a second one ends it at once.

    The inputs in flight have half a second to finish. After it their runs are terminated, and the main thread no longer
    waits: not for a run, a read of stdin or the next name of a folder.
    """

    def __init__(self, stop: Stop, engine: Engine) -> None:
        self._stop = stop
        self._engine = engine
        self.signal = 0

    def __enter__(self) -> "Interruption":
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGINT: self._handle,
            signal.SIGTERM: self._handle,
        }
        if _HAS_TIMER:
            handlers[signal.SIGALRM] = self._give_up
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        if _HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal:
            self._end(number)
        self.signal = number
        self._stop.ask()
        if _HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, _GRACE_S, _GRACE_S)
        else:
            self._engine.terminate()
        sys.stderr.write("\nstopping after the inputs in flight. A second signal ends the job at once.\n")

    def _give_up(self, _number: int, _frame: FrameType | None) -> None:
        self._engine.terminate()
        self._stop.abandon()

    def _end(self, number: int) -> NoReturn:
        """End the process, once what is open had a moment to be closed: a thread may never come back."""
        timer = threading.Timer(_GRACE_S, os._exit, [128 + number])
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt


def predict(request: JobOptions, print_table: Callable[[list[Result]], None]) -> None:
    """Run the command; raises typer.Exit with 1 when inputs failed, or 128 and the signal's number when stopped."""
    name = _format_name(request)
    if request.out is not None:
        from runtime.jobs.writers import check_writable

        check_writable(request.out, name)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module=r"PIL\.")  # thousands for one photo; ours say what matters
        warnings.showwarning = _print_warning
        if request.out is None:
            _predict_to_stdout(request, name, print_table)
        else:
            _predict_to_file(request, request.out, name)


def _predict_to_stdout(request: JobOptions, name: str, print_table: Callable[[list[Result]], None]) -> None:
    if is_closed(sys.stdout):
        raise InputError("stdout: closed: expected somewhere to print the rows. Redirect it, or add --out FILE.")
    engine, inputs, total, left_out = _open(request)
    stop = Stop()
    rows = failed = 0
    with (
        engine,
        Interruption(stop, engine) as interruption,
        _progress(total, 0, shown=not sys.stdout.isatty()) as advance,
        _printer(name, print_table) as print_page,
    ):
        results = stop.each(engine.predict_each(inputs, skipped=0, stop=stop))
        overlays = _open_overlays(request, engine)
        if overlays is not None:
            results = overlays.write_each(results)
        for page in batches(results, _PAGE_ROWS if name == "table" else 1):
            print_page(page)
            rows += len(page)
            failed += sum(isinstance(result, Failure) for result in page)
            advance(len(page))
    if not stop.exhausted:
        sys.stderr.write(f"stopped after {rows} inputs. With --out FILE, --resume could continue from there.\n")
        raise typer.Exit(128 + interruption.signal)
    _exit(request, rows, failed, left_out)


@contextmanager
def _printer(name: str, print_table: Callable[[list[Result]], None]) -> Iterator[Callable[[list[Result]], None]]:
    """Yield what prints rows on stdout; those of CSV come at the end, as its columns are those of all rows."""
    if name == "table":
        yield print_table
        return
    if name == "jsonl":
        yield lambda page: _write_lines(sys.stdout.buffer, page)
        return
    from runtime.jobs.writers import write_csv_to

    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        with rows.open("wb") as stream:
            yield lambda page: _write_lines(stream, page)
        text = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
        write_csv_to(rows, text)
        text.detach()


def _write_lines(stream: BinaryIO, page: list[Result]) -> None:
    """Write rows as lines of JSON, in UTF-8 whatever the locale."""
    stream.writelines(msgspec.json.encode(result.to_dict()) + b"\n" for result in page)
    stream.flush()


def _predict_to_file(request: JobOptions, out: Path, name: str) -> None:
    from runtime.jobs.job import Job, describe_job
    from runtime.jobs.journal import Journal

    engine, inputs, total, left_out = _open(request)
    overlays = _open_overlays(request, engine)
    options: dict[str, float | int | str | None] = {
        "top_k": request.top_k,
        "threshold": request.threshold,
        "max_pixels": request.max_pixels,
        **({"precision": request.precision} if request.precision != FULL_PRECISION else {}),
        **({"overlays": str(request.overlays)} if request.overlays is not None else {}),
    }
    description = describe_job(request.artifact, request.inputs, column=request.column, options=options)
    stop = Stop()
    start = time.monotonic()
    with (
        engine,
        # Before the journal: what is begun can be stopped.
        Interruption(stop, engine) as interruption,
        Journal(out, description, resume=request.resume, force=request.force) as journal,
    ):
        job = Job(engine=engine, journal=journal, stop=stop, format_name=name, overlays=overlays)
        done = job.skip_done(inputs)
        try:
            with _progress(total, done.rows, shown=True) as advance:
                summary = job.run(inputs, done, on_row=lambda: advance(1))
        except (TruecopyError, OSError, KeyboardInterrupt):
            sys.stderr.write(_resume_hint(journal))
            raise
    if not summary.finished:
        sys.stderr.write(f"stopped. {_resume_hint(journal)}")
        raise typer.Exit(128 + interruption.signal)
    seconds = time.monotonic() - start
    rate = (summary.rows - done.rows) / seconds
    sys.stderr.write(f"'{out}': {summary.rows} rows, {summary.rows - done.rows} of them now ({rate:.1f}/s)\n")
    _exit(request, summary.rows, summary.failed, left_out)


def _open(request: JobOptions) -> tuple[Engine, Iterator[NamedInput], int | None, LeftOut]:
    """Return the engine, the inputs, how many there are where that is known, and what is left out."""
    from runtime.artifact.open import open_artifact

    check_options(request.top_k, request.threshold, request.precision)
    manifest = open_artifact(request.artifact).manifest
    manifest.variant(request.precision)
    source_format = source_format_of(manifest.inputs)
    left_out = LeftOut()
    total = count_inputs(request.inputs, source_format, column=request.column, left_out=left_out)
    engine = open_engine(request, source_format, total)
    counted_by_reading = left_out if total is None else None
    inputs = read_sources(request.inputs, source_format, column=request.column, left_out=counted_by_reading)
    return engine, inputs, total, left_out


def _open_overlays(request: JobOptions, engine: Engine) -> "Overlays | None":
    """Return the writer of the pictures that ``--overlays`` asks for; also for rows of a cluster."""
    if request.overlays is None:
        return None
    from runtime.jobs.overlays import Overlays

    model = engine.model if isinstance(engine, LocalEngine) else load(request.artifact, device="cpu")
    return Overlays(model, request.overlays)


def _format_name(request: JobOptions) -> str:
    if request.format is not None:
        name = request.format
    elif request.out is not None:
        from runtime.jobs.writers import SUFFIXES

        name = SUFFIXES.get(request.out.suffix.lower(), "")
    else:
        name = "table"
    if request.out is None and name not in TO_STDOUT:
        raise InputError(f"format '{name}': expected --out with the file to write, got stdout. Name one, or use jsonl.")
    for option, is_set in (("--resume", request.resume), ("--force", request.force)):
        if request.out is None and is_set:
            raise InputError(f"{option}: expected --out with the file of an unfinished job, got none. Add it.")
    return name


def _exit(request: JobOptions, rows: int, failed: int, left_out: LeftOut) -> None:
    if left_out:
        sys.stderr.write(f"note: {left_out}\n")
    if failed:
        prefix = "note" if request.allow_errors else "error"
        sys.stderr.write(f"{prefix}: {failed} of {rows} inputs failed. Their rows say why.\n")
        if not request.allow_errors:
            raise typer.Exit(1)


def _resume_hint(journal: "Journal") -> str:
    arguments = [argument for argument in sys.argv[1:] if argument not in {"--resume", "--force"}]
    command = shlex.join(["truecopy", *arguments, "--resume"])
    return f"{journal.rows} rows are in '{journal.path}'. Continue with: {command}\n"


@contextmanager
def _progress(total: int | None, done: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar with rate and time left on stderr where that is a terminal; yield a function that counts new rows."""
    if not (shown and sys.stderr.isatty()):
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Latest rate, in rows per second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:.1f}/s")

    columns: list[Any] = [BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=10) as progress:
        task = progress.add_task("", total=total, completed=done)
        yield lambda count: progress.update(task, advance=count)


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"warning: {message}\n")

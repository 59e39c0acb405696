"""The ``truecopy parity`` command."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exporter.cli.options import takes_options
from exporter.cli.origin import describe_origin
from exporter.cli.preflight import check_recheck
from exporter.cli.terminal import TerminalProgress
from exporter.options.export import ExportOptions
from runtime.console import open_console
from runtime.manifest import LAYOUT

if TYPE_CHECKING:
    from runtime.evidence import Evidence
    from runtime.reports import Report

_REPORTS = "Reports"
_EXPORTED = "As exported, where the artifact does not hold it"

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print the evidence on stdout, as JSON.", rich_help_panel=_REPORTS)
]


def _report_option(text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="FILE", help=text, rich_help_panel=_REPORTS)
    return option


@takes_options(
    lambda _name, option: option.recheck,
    checkpoint=Annotated[Path, typer.Option(metavar="FILE", help="Checkpoint that the artifact was made from.")],
    panel=_EXPORTED,
)
def parity(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder that 'truecopy export' wrote.")],
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Earlier parity.json: fail where a figure grew more than 4 times."),
    ] = None,
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache",
            help="Photos: take what a transform does to made images from an earlier check that passed with the same "
            "versions, graph and machine. Default: yes, but not where the environment has CI=true.",
        ),
    ] = None,
    json: JsonFlag = False,
    junit: Annotated[Path | None, _report_option("JUnit XML, for most CI systems.")] = None,
    sarif: Annotated[Path | None, _report_option("SARIF, for code scanning.")] = None,
    html: Annotated[Path | None, _report_option("HTML page with pictures.")] = None,
    github: Annotated[
        bool,
        typer.Option("--github", help="Annotations and a job summary on GitHub's runners.", rich_help_panel=_REPORTS),
    ] = False,
    *,
    options: ExportOptions,
) -> None:
    """Check an artifact against its checkpoint again; exits 0 passed, 1 failed or inconclusive, 2 wrong usage."""
    from exporter import check_extra
    from runtime.reports import (
        Destinations,
        Report,
        compare_with_baseline,
        read_baseline,
        write_reports,
    )
    from runtime.reports.table import to_table

    destinations = Destinations(junit=junit, sarif=sarif, html=html)
    with _usage_errors():
        destinations.check()
        before = read_baseline(baseline) if baseline is not None else None
    check_extra()
    manifest = str(artifact / LAYOUT.manifest)

    def write(report: Report) -> None:
        report = replace(report, origin=describe_origin(artifact, ["truecopy", *sys.argv[1:]]))
        write_reports(report, destinations)
        if github:
            from runtime.reports.github import report_to_github

            # Where stdout is JSON, the runner reads commands on stderr as well.
            (sys.stderr if json else sys.stdout).write(report_to_github(report))

    with (
        _reported_errors(artifact, options.max_ratio, write),
        TerminalProgress(open_console(stderr=True)) as terminal,
    ):
        check_recheck(artifact, options)
        with terminal.loading():
            from exporter.parity.proof_cache import user_cache
            from exporter.recheck import recheck_artifact

        proofs = user_cache() if _takes_cache(cache) else None
        result = recheck_artifact(artifact, options, pictures=html is not None, listener=terminal, cache=proofs)
    evidence = result.evidence
    if before is not None:
        evidence = compare_with_baseline(evidence, before, str(baseline))
    if json:
        from runtime.evidence import evidence_to_json

        sys.stdout.write(evidence_to_json(evidence).decode())
    else:
        open_console().print(to_table(evidence), highlight=False)
    write(Report(evidence=evidence, manifest=manifest, pictures=result.pictures))
    if result.location is not None:
        sys.stderr.write(f"located: {result.location.sentence}.\n")
    if not evidence.passed:
        sentences = (f"'{artifact}': parity {evidence.verdict}: {evidence.reason}.", _advice(evidence))
        sys.stderr.write(f"error: {' '.join(filter(None, sentences))}\n")
        raise typer.Exit(1)


def _takes_cache(asked: bool | None) -> bool:
    """Return whether earlier proofs count: in a CI only where that is asked for."""
    return os.environ.get("CI", "").lower() not in {"true", "1"} if asked is None else asked


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Make an option that cannot be used an error of usage, whose exit status is 2."""
    from runtime.errors import InputError

    try:
        yield
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(2) from None


@contextmanager
def _reported_errors(artifact: Path, max_ratio: float, write: "Callable[[Report], None]") -> Iterator[None]:
    """Write the reports for a check that could not run as well: a CI then shows why, and not that they are missing."""
    from runtime.errors import TruecopyError
    from runtime.reports import Report, unfinished

    try:
        yield
    except TruecopyError as error:
        evidence = unfinished(artifact.name, str(error), max_ratio=max_ratio, tools=_tools())
        write(Report(evidence=evidence, manifest=str(artifact / LAYOUT.manifest)))
        raise


def _tools() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("torch", "onnx", "numpy", "truecopy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _advice(evidence: "Evidence") -> str:
    from exporter.parity.advice import advise
    from exporter.parity.verdict import WHOLE

    row = evidence.rows[evidence.first_fault] if evidence.first_fault is not None else None
    if row is not None and row.group == WHOLE and row.stage != "network":
        return ""  # the finding names the option and the remedy
    if evidence.verdict == "inconclusive":
        return f"The check is inconclusive. {advise(evidence)}"
    return f"Export it again; if the fault stays: {advise(evidence)}"

"""The ``truecopy parity`` command: parse, call, report."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exporter.cli.export import Imports, Locate, MaxRatio, Trust
from exporter.cli.options import read_arguments, read_lengths, read_numbers, read_plain_transform
from runtime.console import open_console

if TYPE_CHECKING:
    from runtime.evidence import Evidence
    from runtime.reports import Report

# The groups of options.
_REPORTS = "Reports"
_EXPORTED = "As it was exported, where the manifest cannot tell"


def parity(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="The folder that 'truecopy export' wrote.")],
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint that it was made from.")],
    samples: Annotated[Path | None, typer.Option(help="Inputs to prove with. Default: our own.")] = None,
    max_ratio: MaxRatio = 10.0,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An earlier parity.json: fails where a figure grew more than 4 times."),
    ] = None,
    locate: Locate = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the evidence on stdout, as JSON.", rich_help_panel=_REPORTS)
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For most CI systems.", rich_help_panel=_REPORTS)
    ] = None,
    sarif: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For code scanning.", rich_help_panel=_REPORTS)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A page with pictures, for people.", rich_help_panel=_REPORTS)
    ] = None,
    github: Annotated[
        bool,
        typer.Option("--github", help="Annotations and a job summary, on GitHub's runners.", rich_help_panel=_REPORTS),
    ] = False,
    arch: Annotated[str | None, typer.Option(help="Where the architecture is now.", rich_help_panel=_EXPORTED)] = None,
    arch_arg: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Its arguments.", rich_help_panel=_EXPORTED)
    ] = None,
    preprocess: Annotated[
        str | None, typer.Option(metavar="REFERENCE", help="The transform.", rich_help_panel=_EXPORTED)
    ] = None,
    resize: Annotated[
        str | None, typer.Option(metavar="SIZE", help="As in the export.", rich_help_panel=_EXPORTED)
    ] = None,
    crop: Annotated[
        str | None, typer.Option(metavar="SIZE", help="As in the export.", rich_help_panel=_EXPORTED)
    ] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="M,M,M", help="As in the export.", rich_help_panel=_EXPORTED)
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar="S,S,S", help="As in the export.", rich_help_panel=_EXPORTED)
    ] = None,
    interpolation: Annotated[
        str, typer.Option(metavar="NAME", help="As in the export.", rich_help_panel=_EXPORTED)
    ] = "bilinear",
    resize_backend: Annotated[
        str, typer.Option(metavar="WHOSE", help="As in the export.", rich_help_panel=_EXPORTED)
    ] = "pillow",
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=...", help="The arrays or tokens.", rich_help_panel=_EXPORTED),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="The columns.", rich_help_panel=_EXPORTED)
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Training's tokenizer.", rich_help_panel=_EXPORTED)
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The words of tokens.", rich_help_panel=_EXPORTED)
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(metavar="N", help="The most tokens.", rich_help_panel=_EXPORTED)
    ] = None,
    pad_id: Annotated[
        int | None, typer.Option(metavar="N", help="The padding token.", rich_help_panel=_EXPORTED)
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The names of the classes.", rich_help_panel=_EXPORTED)
    ] = None,
    trust: Trust = False,
    import_: Imports = None,
) -> None:
    """Prove an artifact again; exit status 0 passed, 1 failed or inconclusive, 2 wrong use."""
    numbers: dict[str, Any] = {"resize": read_lengths("--resize", resize), "crop": read_lengths("--crop", crop)}
    numbers |= {"mean": read_numbers("--mean", mean), "std": read_numbers("--std", std)}
    if preprocess is not None and any(value is not None for value in numbers.values()):
        raise typer.BadParameter("cannot stand beside --resize, --crop, --mean and --std", param_hint="--preprocess")
    arguments = read_arguments(arch_arg or [])

    from exporter import check_extra
    from runtime.reports import Destinations, Report, compare_with_baseline, read_baseline, write_reports
    from runtime.reports.table import to_table

    destinations = Destinations(junit=junit, sarif=sarif, html=html)
    with _usage():
        destinations.check()
        before = read_baseline(baseline) if baseline is not None else None
    check_extra()
    from exporter.recheck import check
    from exporter.recipe import Recipe

    recipe = Recipe(
        checkpoint=checkpoint,
        preprocess=preprocess or read_plain_transform(numbers, interpolation, resize_backend),
        labels=labels,
        samples=samples,
        trust=trust,
        imports=tuple(import_ or ()),
        inputs=tuple(input_ or ()),
        columns=tuple(columns.split(",")) if columns else (),
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        max_length=max_length,
        pad_id=pad_id,
        max_ratio=max_ratio,
    )
    manifest = str(artifact / "truecopy.json")

    def report(outcome: "Report") -> None:
        write_reports(outcome, destinations)
        if github:
            from runtime.reports.annotations import report_to_github

            # Where stdout is JSON, the runner reads commands on stderr as well.
            (sys.stderr if json else sys.stdout).write(report_to_github(outcome))

    with _told(artifact, max_ratio, report):
        checked = check(artifact, recipe, arch=arch, arguments=arguments, pictures=html is not None, locate=locate)
    evidence = checked.evidence
    if before is not None:
        evidence = compare_with_baseline(evidence, before, str(baseline))
    if json:
        from runtime.evidence import evidence_to_json

        sys.stdout.write(evidence_to_json(evidence).decode())
    else:
        open_console().print(to_table(evidence), highlight=False)
    report(Report(evidence=evidence, manifest=manifest, pictures=checked.pictures))
    if checked.location is not None:
        sys.stderr.write(f"located: {checked.location.sentence}.\n")
    if not evidence.passed:
        sys.stderr.write(f"error: '{artifact}': parity {evidence.verdict}: {evidence.reason}. {_advice(evidence)}\n")
        raise typer.Exit(1)


@contextmanager
def _usage() -> Iterator[None]:
    """Make an option that cannot be used an error of usage, whose exit status is 2."""
    from runtime.errors import InputError

    try:
        yield
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(2) from None


@contextmanager
def _told(artifact: Path, max_ratio: float, report: "Callable[[Report], None]") -> Iterator[None]:
    """Write the reports for a check that could not be made, too: a CI then shows why, and not that they are missing."""
    from runtime.errors import TruecopyError
    from runtime.reports import Report, unfinished

    try:
        yield
    except TruecopyError as error:
        evidence = unfinished(artifact.name, str(error), max_ratio=max_ratio, tools=_tools())
        report(Report(evidence=evidence, manifest=str(artifact / "truecopy.json")))
        raise


def _tools() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "onnx", "numpy", "truecopy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _advice(evidence: "Evidence") -> str:
    if evidence.verdict == "inconclusive":
        return "Nothing is proven: mend that, and check again."
    return "Do not ship it; export it again."

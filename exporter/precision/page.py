"""Self-contained HTML page of a variant: what was tried and measured, and the inputs whose label flipped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from exporter.precision.search import NodeCost, Trial
from runtime.manifest import FULL_PRECISION, Agreement
from runtime.reports import Picture
from runtime.reports.page import pictures_to_html, table_to_html

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header class="{kind}"><p class="verdict">{verdict}</p><h1>{headline}</h1>{summary}</header>
{sections}
</body>
</html>
"""


@dataclass(frozen=True, kw_only=True)
class MeasuredVariant:
    """What a page shows; ``costs`` are there where the variant was refused, and ``pictures`` of the flips."""

    name: str
    precision: str
    min_agreement: float
    agreement: Agreement
    trials: Sequence[Trial]
    costs: Sequence[NodeCost]
    pictures: Sequence[Picture]


def write_page(path: Path, variant: MeasuredVariant) -> None:
    """Write the page of a measured variant, which loads nothing else."""
    agreement, refused = variant.agreement, variant.agreement.share < variant.min_agreement
    flips = agreement.inputs - agreement.equal
    shares = f"{agreement.share:.2%}, at 95% between {agreement.low:.2%} and {agreement.high:.2%}"
    summary = [
        f"{agreement.equal} of {agreement.inputs} measured inputs have the label of {FULL_PRECISION}: {shares}.",
        f"At least {variant.min_agreement:.2%} were required.",
        f"Scores differ by {agreement.score_difference:.2g} at most, {agreement.mean_score_difference:.1e} on average.",
        "Nothing was written." if refused else "It is measured, and not proven equal.",
    ]
    page = _FRAME.format(
        title=escape(f"{variant.name}: {variant.precision}"),
        style=(files("runtime.reports") / "page.css").read_text(encoding="utf-8"),
        kind="failed" if refused else "approximate",
        verdict="refused" if refused else "approximate",
        headline=f"'{escape(variant.name)}' in {escape(variant.precision)}",
        summary="".join(f"<p>{escape(sentence)}</p>" for sentence in summary),
        sections="\n".join(_sections(variant, flips)),
    )
    path.write_text(page, encoding="utf-8")


def _sections(variant: MeasuredVariant, flips: int) -> Iterator[str]:
    if variant.costs:
        yield "<h2>The nodes that cost most, each quantized alone</h2>"
        costs = [
            (cost.module, cost.node, f"{cost.agreement:.1%}", f"{cost.mean_score_difference:.1e}")
            for cost in variant.costs
        ]
        yield table_to_html(("module", "node", "labels equal", "scores differ"), costs, numbers=frozenset({2, 3}))
    yield "<h2>What was tried</h2>"
    trials = [
        (
            trial.ranges,
            str(len(trial.quantization.fp32_nodes)),
            f"{trial.agreement:.2%}",
            f"{trial.mean_score_difference:.1e}",
        )
        for trial in variant.trials
    ]
    heads = ("ranges", f"nodes in {FULL_PRECISION}", "labels equal", "scores differ")
    yield table_to_html(heads, trials, numbers=frozenset({1, 2, 3}))
    if not flips:
        yield "<h2>No label flipped</h2>"
    elif flips > len(variant.pictures):
        yield f"<p>{len(variant.pictures)} of {flips} flipped labels are shown: where fp32 was surest.</p>"
    yield from pictures_to_html("Flipped labels", variant.pictures, expected=FULL_PRECISION, got=variant.precision)

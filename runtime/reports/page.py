"""One page that says what was found to someone who was not there: no scripts, nothing to load, light and dark."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from runtime.evidence import STAGES, Drift, Evidence, Noise, Row
from runtime.reports.charts import LogScale, draw_histogram, draw_pair
from runtime.reports.report import (
    Picture,
    Report,
    name_of_row,
    say_figure,
    say_growth,
    say_ratio,
    say_share,
    worst_rows,
)
from runtime.reports.stage_help import STAGE_TEXTS

_LISTED = 60


def to_page(outcome: Report) -> bytes:
    """Return the report as HTML that needs no other file."""
    evidence = outcome.evidence
    style = (files("runtime.reports") / "page.css").read_text(encoding="utf-8")
    parts = [
        _header(evidence),
        _question(evidence),
        *(_drift(evidence.drift) if evidence.drift is not None else ()),
        *(_bars(evidence) if evidence.rows else ()),
        *_pictures(outcome.pictures),
        *_histograms(evidence),
        *_lists(evidence),
        *_figures(evidence),
        *_noise_table(evidence.noise),
        *_inputs(evidence),
        _versions(evidence),
    ]
    title = escape(f"{evidence.artifact}: parity {evidence.verdict}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    ).encode()


def _header(evidence: Evidence) -> str:
    name = f"'{escape(evidence.artifact)}'"
    grown = evidence.drift is not None and bool(evidence.drift.grown) and all(row.passed for row in evidence.rows)
    headline = {
        "passed": f"{name} is a true copy of its PyTorch model",
        "failed": f"{name} differs more than at its baseline" if grown else f"{name} is not a true copy",
        "inconclusive": f"Nothing is proven about {name}",
    }[evidence.verdict]
    lines = [f'<p class="verdict">parity {evidence.verdict}</p>', f"<h1>{headline}</h1>"]
    if evidence.passed:
        lines.append(
            f"<p>On {_count(len(evidence.inputs), 'input')}, every way to run it gave what the original gives, as "
            f"closely as the original agrees with itself.{_worst_sentence(evidence)}</p>"
        )
    else:
        lines.append(f"<p>{escape(_sentence(evidence.reason))}</p>")
    if evidence.verdict == "failed" and not grown and evidence.first_fault is not None:
        stage = evidence.rows[evidence.first_fault].stage
        what, advice = STAGE_TEXTS[stage]
        lines.append(f"<p><strong>The first stage at fault: {stage}.</strong> {escape(what)} {escape(advice)}</p>")
    if evidence.verdict == "inconclusive":
        lines.append("<p>This is no pass: do not ship on it. Mend what the sentence above names, and check again.</p>")
    return f'<header class="{evidence.verdict}">{"".join(lines)}</header>'


def _worst_sentence(evidence: Evidence) -> str:
    rows = [row for row in evidence.rows if row.ratio and row.floor]
    if not rows:
        return " Nothing differed at all."
    worst = max(rows, key=lambda row: row.ratio or 0.0)
    return (
        f" The largest difference is {say_ratio(worst)} times the noise floor ({escape(name_of_row(worst))}); "
        f"{evidence.max_ratio:g} times is allowed."
    )


def _question(evidence: Evidence) -> str:
    floors = [noise for noise in evidence.noise if noise.stage == "network" and noise.floor] or [
        noise for noise in evidence.noise if noise.floor
    ]
    example = ""
    if floors:
        noise = max(floors, key=lambda one: one.floor)
        example = (
            f" Here that noise floor is {noise.floor:.1e} for '{escape(noise.tensor)}', whose values go up to "
            f"{noise.size:.3g}."
        )
    return (
        "<h2>What was compared</h2>"
        "<p>The original model runs in PyTorch, behind the transform that it was trained with, and nothing of the "
        "export has touched it. The exported artifact got the same raw inputs, in each way that it can be run. Every "
        "stage was compared alone, on the original's own input to it, which shows where a fault is; and end to end, "
        "which is what a user would see.</p>"
        "<p><strong>The noise floor:</strong> computers round, so even the original differs from itself a little when "
        "it computes in double precision, on another number of threads, or on several inputs at once. How far was "
        f"measured.{example} A true copy may differ by up to {evidence.max_ratio:g} times that floor. Pixels, tokens "
        "and labels are not rounded: they have to be equal.</p>"
    )


def _bars(evidence: Evidence) -> Iterable[str]:
    """Give, for each path on each device, a bar a stage: the worst of its groups."""
    worst = worst_rows(evidence.rows)
    ratios = [row.ratio for row in worst if row.ratio is not None and row.floor]
    scale = LogScale(ratios, evidence.max_ratio)
    drift = evidence.drift.grown if evidence.drift is not None else ()
    grown = {(growth.path, growth.device, growth.stage): growth for growth in drift}
    yield "<h2>Where it differs</h2>"
    yield "<p>The largest difference of each stage, as a multiple of the noise floor, on a logarithmic scale.</p>"
    yield (
        '<ul class="key"><li><i class="k-noise"></i>within the noise floor</li>'
        '<li><i class="k-allowed"></i>allowed</li><li><i class="k-beyond"></i>more than rounding explains</li></ul>'
    )
    place = ""
    for row in worst:
        if place != f"{row.path} on {row.device}":
            if place:
                yield _axis(scale)
            place = f"{row.path} on {row.device}"
            yield f"<h3>{escape(place)}</h3>"
        ratio = row.ratio if row.floor else None
        if not row.passed and row.fault not in ("value", "label"):
            ratio = None  # no figure
        value, kind = _value(row), "good" if row.passed else "bad"
        if row.passed and (row.path, row.device, row.stage) in grown:
            value, kind = f"{value}, was {grown[row.path, row.device, row.stage].before:.2g}", "grew"
        yield (
            f'<div class="bar"><span class="stage">{row.stage}</span>'
            f"{scale.bar(ratio, kind=kind, title=f'{row.stage}: {value}')}"
            f'<span class="value {kind}">{escape(value)}</span></div>'
        )
    yield _axis(scale)


def _axis(scale: LogScale) -> str:
    return f'<div class="bar">{scale.axis()}</div>'


def _value(row: Row) -> str:
    if row.fault not in (None, "value", "label"):
        return f"{row.fault}"
    if row.fault == "label" and not row.floor:
        return "other labels"
    if row.difference == 0 or row.difference is None:
        text = "equal"
    elif row.floor:
        text = f"{say_ratio(row)} x noise"
    else:
        text = f"{row.difference:.3g} {row.unit}" + (f" on {row.share:.1%}" if row.share is not None else "")
    return f"{text}, other label" if row.fault == "label" else text


def _pictures(pictures: Sequence[Picture]) -> Iterable[str]:
    if not pictures:
        return
    yield "<h2>The worst inputs</h2>"
    for picture in pictures:
        images = "".join(
            f'<div><img alt="{escape(image.label)}" src="data:image/png;base64,'
            f'{base64.b64encode(image.png).decode()}">{escape(image.label)}</div>'
            for image in picture.images
        )
        scores = "".join(
            f"<span>{escape(one.label)}</span>{draw_pair(one.expected, one.got)}"
            f"<span>{one.expected:.4f} / {one.got:.4f}</span>"
            for one in picture.scores
        )
        key = '<ul class="key"><li><i class="k-expected"></i>original</li><li><i class="k-got"></i>artifact</li></ul>'
        yield (
            f"<figure><h3>{escape(picture.title)}</h3>"
            + (f'<div class="images">{images}</div>' if images else "")
            + (f'{key}<div class="scores">{scores}</div>' if scores else "")
            + f"<figcaption><p>{escape(picture.caption)}</p></figcaption></figure>"
        )


def _histograms(evidence: Evidence) -> Iterable[str]:
    charts = []
    for stage in STAGES:
        rows = [row for row in evidence.rows if row.stage == stage and row.floor and sum(row.histogram)]
        if not rows:
            continue
        counts = [sum(column) for column in zip(*(row.histogram for row in rows), strict=True)]
        title = f"{stage}: {sum(counts):,} values, by how far they are from the original's"
        charts.append(
            f"<div><h3>{stage}</h3>{draw_histogram(counts, evidence.max_ratio, title)}"
            f"<small>{sum(counts):,} values, all paths together</small></div>"
        )
    if charts:
        yield "<h2>How the differences are spread</h2>"
        yield (
            "<p>From left to right: values that are equal, then by their difference as a multiple of the noise floor. "
            "Heights are logarithms, so that a single value of a million is seen.</p>"
        )
        yield f'<div class="histograms">{"".join(charts)}</div>'


def _drift(drift: Drift) -> Iterable[str]:
    yield "<h2>Since the baseline</h2>"
    if drift.grown:
        yield f"<ul>{''.join(f'<li>{escape(say_growth(one, drift))}</li>' for one in drift.grown)}</ul>"
    else:
        yield f"<p>No figure grew more than {drift.allowed:g} times since '{escape(drift.baseline)}'.</p>"
    if drift.versions:
        rows = [(one.name, one.before or "none", one.now or "none") for one in drift.versions]
        yield _table(("changed", "then", "now"), rows)
    for title, names in (("new, with nothing to compare with", drift.new), ("no longer compared", drift.gone)):
        if names:
            yield f"<p>{title}: {escape('; '.join(names))}</p>"


def _lists(evidence: Evidence) -> Iterable[str]:
    less = dict.fromkeys(
        f"{row.group}: {row.inputs} of {row.planned} inputs were compared"
        for row in evidence.rows
        if row.inputs < row.planned
    )
    missed = [*less, *evidence.not_compared]
    if missed:
        yield "<h2>What was not compared</h2>"
        yield f"<ul>{''.join(f'<li>{escape(_sentence(one))}</li>' for one in missed)}</ul>"
    if evidence.near_ties:
        yield "<h2>Near ties</h2>"
        yield (
            "<p>On these inputs the original's own two best answers are as close as its noise: it could say either, "
            "and so may a true copy.</p>"
        )
        rows = [(tie.input, tie.path, tie.expected, tie.got, f"{tie.margin:.1e}") for tie in evidence.near_ties]
        yield _table(("input", "path", "original", "artifact", "margin"), rows[:_LISTED])


def _figures(evidence: Evidence) -> Iterable[str]:
    if not evidence.rows:
        return
    rows = [
        (
            row.path,
            row.device,
            row.stage,
            row.group,
            f"{row.inputs}" if row.inputs == row.planned else f"{row.inputs} of {row.planned}",
            say_figure(row).partition(",")[0],
            say_ratio(row),
            "" if row.difference_p99 is None else f"{row.difference_p99:.2g}",
            say_share(row.share),
            say_share(row.label_agreement),
            row.fault or "passed",
            row.worst_input if row.difference or row.fault else "",
        )
        for row in evidence.rows
    ]
    heads = (
        *("path", "device", "stage", "inputs from", "inputs", "largest difference", "x noise", "99th percentile"),
        *("values that differ", "labels that agree", "verdict", "worst input"),
    )
    faults = frozenset(place for place, row in enumerate(evidence.rows) if not row.passed)
    yield "<h2>All figures</h2>"
    yield _table(heads, rows, numbers=frozenset({4, 6, 7, 8, 9}), faults=faults)
    findings = [
        f"<li>{escape(name_of_row(row))}: {escape(row.finding)}</li>" for row in evidence.rows if not row.passed
    ]
    if findings:
        yield f"<details><summary>{_count(len(findings), 'finding')}</summary><ul>{''.join(findings)}</ul></details>"


def _noise_table(noise: Sequence[Noise]) -> Iterable[str]:
    if not noise:
        return
    rows = [
        (
            one.stage,
            one.tensor,
            f"{one.size:.3g}",
            f"{one.signal:.2g}",
            *("" if value is None else f"{value:.1e}" for value in (one.precision, one.threads, one.batch)),
            f"{one.floor:.1e}",
            f"{one.limit:.1e}",
            one.note,
        )
        for one in noise
    ]
    heads = ("stage", "tensor", "largest value", "varies by", "float64", "threads", "batch", "floor", "limit", "note")
    yield "<details><summary>The noise floor of every tensor</summary>"
    yield _table(heads, rows, numbers=frozenset(range(2, 9)), wrap=9)
    yield "</details>"


def _inputs(evidence: Evidence) -> Iterable[str]:
    if not evidence.groups:
        return
    yield f"<details><summary>{_count(len(evidence.inputs), 'input')}</summary><ul>"
    for group in evidence.groups:
        more = f", and {len(group.inputs) - _LISTED} more" if len(group.inputs) > _LISTED else ""
        yield f"<li><strong>{escape(group.name)}</strong>: {escape(', '.join(group.inputs[:_LISTED]))}{more}</li>"
    if evidence.batch_sizes:
        yield f"<li>batch sizes that were run: {', '.join(map(str, evidence.batch_sizes))}</li>"
    for name, lengths in evidence.lengths.items():
        yield f"<li>{escape(name)}: {', '.join(map(str, lengths))}</li>"
    yield "</ul></details>"


def _versions(evidence: Evidence) -> str:
    rows = list(evidence.tools.items())
    return f"<h2>Versions</h2>{_table(('tool', 'version'), rows)}" if rows else ""


def _table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: frozenset[int] = frozenset(),
    faults: frozenset[int] = frozenset(),
    wrap: int | None = None,
) -> str:
    """Return a table that scrolls by itself where it is wider than the page."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        found = []
        for place, text in enumerate(texts):
            kind = ' class="number"' if place in numbers else ' class="wrap"' if place == wrap else ""
            found.append(f"<{tag}{kind}>{escape(text)}</{tag}>")
        return "".join(found)

    body = "".join(
        f"<tr{' class=fault' if place in faults else ''}>{cells('td', row)}</tr>" for place, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><tr>{cells("th", heads)}</tr>{body}</table></div>'


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _sentence(text: str) -> str:
    """Return text with a full stop; with a capital, too, unless it begins with a name."""
    ended = text if text.endswith((".", "!", "?")) else f"{text}."
    return f"{ended[:1].upper()}{ended[1:]}" if text.startswith(("the ", "a ", "no ")) else ended

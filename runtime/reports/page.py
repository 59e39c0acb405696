"""Self-contained HTML parity report."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from runtime.errors import listed
from runtime.evidence import STAGES, Drift, Evidence, Noise, Row
from runtime.reports.charts import LogScale, draw_histogram, draw_pair
from runtime.reports.report import (
    Picture,
    Report,
    describe_growth,
    format_difference,
    format_ratio,
    format_share,
    name_of_row,
    worst_rows,
)
from runtime.reports.stage_help import STAGE_TEXTS

_LISTED = 60


def to_page(report: Report) -> bytes:
    """Return the report as one HTML file that loads nothing else."""
    evidence = report.evidence
    folder = files("runtime.reports")
    frame = Template((folder / "page.html").read_text(encoding="utf-8"))
    sections = [
        *(_drift(evidence.drift) if evidence.drift is not None else ()),
        *(_bars(evidence) if evidence.rows else ()),
        *pictures_to_html("The worst inputs", report.pictures, expected="original", got="artifact"),
        *_histograms(evidence),
        *_whole(evidence),
        *_lists(evidence),
        *_figures(evidence),
        *_noise_table(evidence.noise),
        *_inputs(evidence),
        _versions(evidence),
        _origin(report.origin),
    ]
    page = frame.substitute(
        title=escape(f"{evidence.artifact}: parity {evidence.verdict}"),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        verdict=evidence.verdict,
        headline=_headline(evidence),
        summary="".join(_summary(evidence)),
        example=_example(evidence.noise),
        max_ratio=f"{evidence.max_ratio:g}",
        sections="\n".join(sections),
    )
    return page.encode()


def _headline(evidence: Evidence) -> str:
    name = f"'{escape(evidence.artifact)}'"
    if evidence.passed:
        return f"{name} is a true copy of its PyTorch model"
    if evidence.verdict == "inconclusive":
        return f"The check of {name} is inconclusive"
    return f"{name} differs more than at its baseline" if _only_grew(evidence) else f"{name} is not a true copy"


def _only_grew(evidence: Evidence) -> bool:
    """Return whether every row passed, and a figure grew since the baseline."""
    return evidence.drift is not None and bool(evidence.drift.grown) and all(row.passed for row in evidence.rows)


def _summary(evidence: Evidence) -> Iterable[str]:
    if evidence.passed:
        yield f"<p>{_passed_sentence(evidence)}{_worst_sentence(evidence)}</p>"
    else:
        yield f"<p>{escape(_sentence(evidence.reason))}</p>"
    if evidence.verdict == "failed" and not _only_grew(evidence) and evidence.first_fault is not None:
        stage = evidence.rows[evidence.first_fault].stage
        what, advice = STAGE_TEXTS[stage]
        yield f"<p><strong>The first stage at fault: {stage}.</strong> {escape(what)} {escape(advice)}</p>"
    if evidence.verdict == "inconclusive":
        yield "<p>This is not a pass: do not ship it. Fix the problem named above, and check again.</p>"


def _passed_sentence(evidence: Evidence) -> str:
    """Return on how many inputs the artifact was right; forms that it is not served from may have run on fewer."""
    groups = {group.name for group in evidence.groups}
    whole: dict[tuple[str, str], int] = {}
    for row in evidence.rows:
        if row.stage == "end to end" and row.group in groups:
            whole[row.path, row.device] = whole.get((row.path, row.device), 0) + row.inputs
    fewest, most = min(whole.values(), default=0), max(whole.values(), default=0)
    inputs = _count(len(evidence.inputs), "input")
    copy, closeness = "gave what the original gives", "as closely as the original agrees with itself"
    if fewest == most:
        return f"On {inputs}, every way to run it {copy}, {closeness}."
    return (
        f"On {inputs}, the artifact as it is served {copy}, {closeness}; every other way to run it did so on {fewest} "
        "or more of them."
    )


def _worst_sentence(evidence: Evidence) -> str:
    rows = [row for row in evidence.rows if row.ratio and row.floor]
    if not rows:
        return " Nothing differed at all."
    worst = max(rows, key=lambda row: row.ratio or 0.0)
    return (
        f" The largest difference is {format_ratio(worst)} times the noise floor ({escape(name_of_row(worst))}); "
        f"{evidence.max_ratio:g} times is allowed."
    )


def _example(noise: Sequence[Noise]) -> str:
    """Return the sentence with this model's noise floor: the network's, or the largest of all."""
    measured = [entry for entry in noise if entry.floor]
    network = [entry for entry in measured if entry.stage == "network"]
    if not measured:
        return ""
    largest = max(network or measured, key=lambda entry: entry.floor)
    return (
        f" Here that noise floor is {largest.floor:.1e} for '{escape(largest.tensor)}', whose values go up to "
        f"{largest.size:.3g}."
    )


def _bars(evidence: Evidence) -> Iterable[str]:
    """Yield one bar per path, device and stage: the worst of its groups."""
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
    heading = ""
    for row in worst:
        if heading != f"{row.path} on {row.device}":
            if heading:
                yield _axis(scale)
            heading = f"{row.path} on {row.device}"
            yield f"<h3>{escape(heading)}</h3>"
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
        text = f"{format_ratio(row)} x noise"
    else:
        text = f"{row.difference:.3g} {row.unit}" + (f" on {row.share:.1%}" if row.share is not None else "")
    return f"{text}, other label" if row.fault == "label" else text


def pictures_to_html(heading: str, pictures: Sequence[Picture], *, expected: str, got: str) -> Iterable[str]:
    """Yield a section of inputs, each with its images and scores; ``expected`` and ``got`` say whose they are."""
    if not pictures:
        return
    yield f"<h2>{escape(heading)}</h2>"
    for picture in pictures:
        images = "".join(
            f'<div><img alt="{escape(image.label)}" src="data:image/png;base64,'
            f'{base64.b64encode(image.png).decode()}">{escape(image.label)}</div>'
            for image in picture.images
        )
        scores = "".join(
            f"<span>{escape(score.label)}</span>{draw_pair(score.expected, score.got)}"
            f"<span>{score.expected:.4f} / {score.got:.4f}</span>"
            for score in picture.scores
        )
        key = (
            f'<ul class="key"><li><i class="k-expected"></i>{escape(expected)}</li>'
            f'<li><i class="k-got"></i>{escape(got)}</li></ul>'
        )
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
        title = f"{stage}: {sum(counts):,} values, by their difference from the original's"
        charts.append(
            f"<div><h3>{stage}</h3>{draw_histogram(counts, evidence.max_ratio, title)}"
            f"<small>{sum(counts):,} values, all paths together</small></div>"
        )
    if charts:
        yield "<h2>Distribution of the differences</h2>"
        yield (
            "<p>From left to right: values that are equal, then by their difference as a multiple of the noise floor. "
            "Heights are logarithmic, so that a single value of a million is visible.</p>"
        )
        yield f'<div class="histograms">{"".join(charts)}</div>'


def _drift(drift: Drift) -> Iterable[str]:
    yield "<h2>Since the baseline</h2>"
    if drift.grown:
        yield f"<ul>{''.join(f'<li>{escape(describe_growth(growth, drift))}</li>' for growth in drift.grown)}</ul>"
    else:
        yield f"<p>No figure grew more than {drift.allowed:g} times since '{escape(drift.baseline)}'.</p>"
    if drift.versions:
        rows = [(tool.name, tool.before or "none", tool.now or "none") for tool in drift.versions]
        yield table_to_html(("changed", "before", "now"), rows)
    for title, names in (("new, not in the baseline", drift.new), ("no longer compared", drift.gone)):
        if names:
            yield f"<p>{title}: {escape('; '.join(names))}</p>"


def _whole(evidence: Evidence) -> Iterable[str]:
    if not evidence.whole:
        return
    yield "<h2>What was compared whole</h2>"
    yield "<p>These are compared part by part and exactly, and not by what they do to inputs.</p>"
    rows = [
        (check.subject, check.path, f"{check.count}", _verdict(check.fault), check.finding) for check in evidence.whole
    ]
    faults = frozenset(index for index, check in enumerate(evidence.whole) if check.fault)
    heads = ("what", "file", "parts", "verdict", "finding")
    yield table_to_html(heads, rows, numbers=frozenset({2}), faults=faults, wrap=4)


def _lists(evidence: Evidence) -> Iterable[str]:
    incomplete = dict.fromkeys(
        f"{row.group}: {row.inputs} of {row.planned} inputs were compared"
        for row in evidence.rows
        if row.inputs < row.planned
    )
    sentences = [*incomplete, *evidence.not_proven]
    if sentences:
        yield "<h2>What is not proven</h2>"
        yield f"<ul>{''.join(f'<li>{escape(_sentence(text))}</li>' for text in sentences)}</ul>"
    if evidence.fallbacks:
        yield "<h2>Fallbacks</h2>"
        yield f"<ul>{''.join(f'<li>{escape(_sentence(text))}</li>' for text in evidence.fallbacks)}</ul>"
    if evidence.near_ties:
        yield "<h2>Near ties</h2>"
        yield (
            "<p>On these inputs the scores of the original's two best labels differ by less than its noise: it could "
            "give either label, and so may a true copy.</p>"
        )
        rows = [(tie.input, tie.path, tie.expected, tie.got, f"{tie.margin:.1e}") for tie in evidence.near_ties]
        yield table_to_html(("input", "path", "original", "artifact", "margin"), rows[:_LISTED])


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
            format_difference(row),
            format_ratio(row),
            "" if row.difference_p99 is None else f"{row.difference_p99:.2g}",
            format_share(row.share),
            format_share(row.label_agreement),
            _verdict(row.fault),
            row.worst_input if row.difference or row.fault else "",
        )
        for row in evidence.rows
    ]
    heads = (
        *("path", "device", "stage", "inputs from", "inputs", "largest difference", "x noise", "99th percentile"),
        *("values that differ", "labels that agree", "verdict", "worst input"),
    )
    faults = frozenset(index for index, row in enumerate(evidence.rows) if not row.passed)
    yield "<h2>All figures</h2>"
    yield f'<div class="wide">{table_to_html(heads, rows, numbers=frozenset({4, 6, 7, 8, 9}), faults=faults)}</div>'
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
            entry.stage,
            entry.tensor,
            f"{entry.size:.3g}",
            f"{entry.signal:.2g}",
            *("" if value is None else f"{value:.1e}" for value in (entry.precision, entry.threads, entry.batch)),
            f"{entry.floor:.1e}",
            f"{entry.limit:.1e}",
            entry.note,
        )
        for entry in noise
    ]
    heads = ("stage", "tensor", "largest value", "variation", "float64", "threads", "batch", "floor", "limit", "note")
    yield "<details><summary>The noise floor of every tensor</summary>"
    yield table_to_html(heads, rows, numbers=frozenset(range(2, 9)), wrap=9)
    yield "</details>"


def _inputs(evidence: Evidence) -> Iterable[str]:
    if not evidence.groups:
        return
    yield f"<details><summary>{_count(len(evidence.inputs), 'input')}</summary><ul>"
    for group in evidence.groups:
        yield f"<li><strong>{escape(group.name)}</strong>: {escape(listed(group.inputs, _LISTED))}</li>"
    if evidence.batch_sizes:
        yield f"<li>batch sizes that were run: {', '.join(map(str, evidence.batch_sizes))}</li>"
    for name, lengths in evidence.lengths.items():
        yield f"<li>{escape(name)}: {', '.join(map(str, lengths))}</li>"
    yield "</ul></details>"


def _versions(evidence: Evidence) -> str:
    rows = list(evidence.tools.items())
    return f"<h2>Versions</h2>{table_to_html(('tool', 'version'), rows)}" if rows else ""


def _origin(origin: Sequence[tuple[str, str]]) -> str:
    return f"<h2>What was checked, and how</h2>{table_to_html(('what', 'value'), origin, wrap=1)}" if origin else ""


def table_to_html(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: frozenset[int] = frozenset(),
    faults: frozenset[int] = frozenset(),
    wrap: int | None = None,
) -> str:
    """Return a table, as HTML, that scrolls where it is wider than the page.

    ``numbers`` and ``wrap`` are columns, of numbers and of long texts; ``faults`` are rows.
    """

    def cells(tag: str, texts: Sequence[str]) -> str:
        elements = []
        for column, text in enumerate(texts):
            kind = ' class="number"' if column in numbers else ' class="wrap"' if column == wrap else ""
            elements.append(f"<{tag}{kind}>{escape(text)}</{tag}>")
        return "".join(elements)

    body = "".join(
        f"<tr{' class=fault' if index in faults else ''}>{cells('td', row)}</tr>" for index, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><tr>{cells("th", heads)}</tr>{body}</table></div>'


def _verdict(fault: str | None) -> str:
    """Return the verdict of a row in a table, and what differs."""
    return f"failed: {fault}" if fault else "passed"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _sentence(text: str) -> str:
    """Return text with a full stop, and with a capital where it begins with an article."""
    sentence = text if text.endswith((".", "!", "?")) else f"{text}."
    return f"{sentence[:1].upper()}{sentence[1:]}" if text.startswith(("the ", "a ", "no ")) else sentence

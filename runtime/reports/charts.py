"""SVG charts of the HTML report, of any width: horizontal positions are percentages."""

import math
from collections.abc import Sequence
from html import escape

from runtime.evidence import HISTOGRAM_EDGES

# The smallest ratio that is not drawn at the left end, and the largest that the scale shows.
_LEAST, _MOST = 0.01, 1e9
_TICKS = 6
_BAR_HEIGHT = 22
_HEIGHT = 120
# Bars with a smaller share have no room for a label.
_LABELLED = 0.005


class LogScale:
    """Logarithmic scale for multiples of the noise floor, up to a decade above the limit or above the largest."""

    def __init__(self, ratios: Sequence[float], limit: float) -> None:
        """Include the finite ratios, and a decade beyond ``limit``."""
        largest = max([ratio for ratio in ratios if math.isfinite(ratio)], default=1.0)
        self._high = min(_MOST, 10.0 ** math.ceil(math.log10(max(largest, 10 * limit)) + 1e-9))
        self._limit = limit

    def position(self, ratio: float) -> float:
        """Return the position of a ratio, in percent from the left."""
        if ratio <= _LEAST:
            return 0.0
        share = math.log10(min(ratio, self._high) / _LEAST) / math.log10(self._high / _LEAST)
        return 100 * share

    def bar(self, ratio: float | None, *, kind: str, title: str) -> str:
        """Return a bar up to ``ratio`` over the zones of noise, allowed and beyond.

        ``kind`` is good, grew or bad; a bad bar without a ratio has the whole width.
        """
        bar = ""
        if ratio or kind == "bad":
            width = max(0.6, self.position(ratio)) if ratio else 100.0
            bar = f'<rect x="0" y="5" width="{width:.2f}%" height="{_BAR_HEIGHT - 10}" rx="2" class="{kind}"/>'
        floor, limit = self.position(1.0), self.position(self._limit)
        return (
            f'<svg class="track" height="{_BAR_HEIGHT}" role="img" aria-label="{escape(title)}">'
            f"<title>{escape(title)}</title>"
            f'<rect x="0" y="0" width="{floor:.2f}%" height="100%" class="noise"/>'
            f'<rect x="{limit:.2f}%" y="0" width="{100 - limit:.2f}%" height="100%" class="beyond"/>'
            f"{bar}"
            f'<line x1="{floor:.2f}%" x2="{floor:.2f}%" y1="0" y2="100%" class="floor"/>'
            f'<line x1="{limit:.2f}%" x2="{limit:.2f}%" y1="0" y2="100%" class="limit"/>'
            "</svg>"
        )

    def axis(self) -> str:
        """Return the scale below the bars, in decades."""
        decades = round(math.log10(self._high / _LEAST))
        step = max(1, math.ceil(decades / _TICKS))
        texts = []
        for decade in range(0, decades + 1, step):
            ratio = _LEAST * 10**decade
            anchor = "start" if not decade else "end" if decade == decades else "middle"
            texts.append(f'<text x="{self.position(ratio):.2f}%" y="12" text-anchor="{anchor}">{_short(ratio)}</text>')
        return f'<svg class="axis" height="16" aria-hidden="true">{"".join(texts)}</svg>'


def draw_histogram(counts: Sequence[int], limit: float, title: str) -> str:
    """Return a histogram of differences: equal values, then multiples of the noise floor; bad beyond ``limit``.

    Heights are logarithmic, so that one value of a million is visible.
    """
    total, most = sum(counts), math.log10(1 + max(counts))
    width = 100 / len(counts)
    parts = []
    for column, count in enumerate(counts):
        if not count:
            continue
        least = 0.0 if column < 2 else HISTOGRAM_EDGES[column - 2]
        kind = "equal" if not column else "bad" if least >= limit else "good"
        height = max(3.0, (_HEIGHT - 34) * math.log10(1 + count) / most)
        top = _HEIGHT - 18 - height
        text = f"{_range(column)}: {count:,} of {total:,} values"
        parts.append(
            f'<rect x="{column * width + 0.6:.2f}%" y="{top:.1f}" width="{width - 1.2:.2f}%" height="{height:.1f}" '
            f'class="{kind}"><title>{escape(text)}</title></rect>'
        )
        if count / total >= _LABELLED:
            parts.append(
                f'<text x="{(column + 0.5) * width:.2f}%" y="{top - 4:.1f}" text-anchor="middle">'
                f"{_percent(count / total)}</text>"
            )
    ticks = [(0.5 * width, "equal")]
    ticks += [((index + 2) * width, _short(edge)) for index, edge in enumerate(HISTOGRAM_EDGES) if _has_tick(edge)]
    texts = "".join(f'<text x="{x:.2f}%" y="{_HEIGHT - 4}" text-anchor="middle">{text}</text>' for x, text in ticks)
    base = f'<line x1="0" x2="100%" y1="{_HEIGHT - 18}" y2="{_HEIGHT - 18}" class="base"/>'
    return (
        f'<svg class="histogram" height="{_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}{base}{texts}</svg>"
    )


def draw_pair(expected: float, got: float) -> str:
    """Return two bars, one above the other, for two shares from 0 to 1."""
    first, second = (100 * min(1.0, max(0.0, value)) for value in (expected, got))
    return (
        '<svg class="pair" height="14" aria-hidden="true">'
        f'<rect x="0" y="0" width="{first:.2f}%" height="6" class="expected"/>'
        f'<rect x="0" y="8" width="{second:.2f}%" height="6" class="got"/></svg>'
    )


def _range(column: int) -> str:
    """Return the range of a column of the histogram, in words."""
    if not column:
        return "equal"
    if column == 1:
        return f"less than {_short(HISTOGRAM_EDGES[0])} times the noise floor"
    if column > len(HISTOGRAM_EDGES):
        return f"more than {_short(HISTOGRAM_EDGES[-1])} times the noise floor"
    return f"{_short(HISTOGRAM_EDGES[column - 2])} to {_short(HISTOGRAM_EDGES[column - 1])} times the noise floor"


def _has_tick(edge: float) -> bool:
    """Return whether an edge of the histogram has its number below: beyond 100, where each column is a decade, half."""
    decade = round(math.log10(edge))
    return abs(math.log10(edge) - decade) < 1e-9 and (decade <= 2 or not decade % 2)


def _short(value: float) -> str:
    """Return a number in one or two digits: 0.03, 10, 1k, 1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.999:
            return f"{value / size:.0f}{letter}"
    return f"{value:.0f}" if value >= 0.999 else f"{value:.2g}"


def _percent(share: float) -> str:
    if share >= 0.9995:
        return "100%" if share == 1.0 else ">99.9%"
    return f"{share:.0%}" if share >= 0.01 else "&lt;1%"

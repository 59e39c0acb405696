"""Flipped labels: inputs to which a variant gives another label than fp32, named and drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporter.parity.pictures import draw_prepared
from exporter.precision.data import PreparedSource
from exporter.precision.scores import Comparison, compare_scores
from runtime.artifact.golden import read_golden, read_golden_outputs
from runtime.artifact.open import Artifact
from runtime.manifest import FULL_PRECISION, Manifest
from runtime.reports import Picture, Score

# A page stays small: so many flips are drawn, with pictures whose longer side has so many pixels.
_MOST = 24
_SIDE = 112

# Characters of an input that is no image, and of its name.
_LONGEST = 160

# As many of the best labels of each precision have a bar.
_BARS = 3


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """A measured input whose label is not that of fp32: its name, both labels, and the margin that fp32 had."""

    input: str
    fp32: str
    variant: str
    margin: float


def flips_of(scores: Comparison, sources: Sequence[PreparedSource]) -> tuple[Flip, ...]:
    """Return the inputs with other labels; first those where fp32 was surest."""
    return tuple(flip for _, flip in _ordered(scores, sources))


def draw_flips(
    scores: Comparison,
    sources: Sequence[PreparedSource],
    outputs: tuple[Sequence[Mapping[str, NDArray[Any]]], Sequence[Mapping[str, NDArray[Any]]]],
    manifest: Manifest,
    labels: Sequence[str],
    *,
    precision: str,
) -> tuple[Picture, ...]:
    """Return a picture for each input with another label, the surest first, and no more than fit on a page.

    Images are shown as they are prepared, other inputs by their shortened text; ``outputs`` are fp32's and the
    variant's.
    """
    output = manifest.outputs[0].name
    return tuple(
        Picture(
            title=_shorten(flip.input),
            caption=(
                f"{flip.fp32} in {FULL_PRECISION}, {flip.variant} in {precision}; {FULL_PRECISION}'s margin is "
                f"{flip.margin:.3g}.{_describe(sources[index], manifest)}"
            ),
            images=draw_prepared(sources[index].arrays, manifest, side=_SIDE),
            scores=_scores(np.ravel(outputs[0][index][output]), np.ravel(outputs[1][index][output]), labels),
        )
        for index, flip in _ordered(scores, sources)[:_MOST]
    )


def draw_golden_flips(artifact: Artifact, precision: str) -> tuple[Picture, ...]:
    """Return a picture of each golden input to which a variant, as it was measured, gives another label than fp32."""
    manifest, labels = artifact.manifest, artifact.labels()
    measured = manifest.variant(precision).approximation
    assert measured is not None, precision
    cases = read_golden(artifact.file(manifest.golden.file)).cases
    full = [dict(case.outputs) for case in cases]
    own = read_golden_outputs(artifact.file(measured.golden.file), count=len(cases))
    sources = [
        PreparedSource(
            name=f"{precision}: golden input {row}", source=case.source, sha256="", arrays=dict(case.prepared)
        )
        for row, case in enumerate(cases)
    ]
    scores = compare_scores(full, own, manifest, labels)
    return draw_flips(scores, sources, (full, own), manifest, labels, precision=precision)


def _ordered(scores: Comparison, sources: Sequence[PreparedSource]) -> list[tuple[int, Flip]]:
    flips = [
        (index, Flip(input=sources[index].name, fp32=full, variant=own, margin=margin))
        for index, margin, (full, own) in zip(scores.flipped, scores.margins, scores.decisions, strict=True)
    ]
    return sorted(flips, key=lambda pair: (-pair[1].margin, pair[1].input))


def _describe(source: PreparedSource, manifest: Manifest) -> str:
    """Return an input that is no image in a few words, behind a space; empty for images and files."""
    content = source.source
    if draw_prepared(source.arrays, manifest, side=1) or isinstance(content, Path):
        return ""
    if isinstance(content, bytes):
        content = content[: 4 * _LONGEST].decode(errors="replace")
    if isinstance(content, Mapping):
        content = ", ".join(f"{name}={value}" for name, value in content.items())
    return f" Input: {_shorten(' '.join(str(content).split()))}"


def _scores(full: NDArray[Any], own: NDArray[Any], labels: Sequence[str]) -> tuple[Score, ...]:
    """Return the best labels of both, with the probability that each gives them."""
    if len(labels) != len(full):
        return ()
    best = [*np.argsort(-full, kind="stable")[:_BARS], *np.argsort(-own, kind="stable")[:_BARS]]
    return tuple(
        Score(label=_shorten(labels[index]), expected=float(full[index]), got=float(own[index]))
        for index in dict.fromkeys(map(int, best))
    )


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"

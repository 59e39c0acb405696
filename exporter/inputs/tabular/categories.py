"""Comparison of every category of every column with what an artifact's own graph makes of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.inputs.tabular.columns import Profile
from exporter.inputs.tabular.estimator import TabularTransform
from exporter.parity.cases import Case, PreparedInput, ReferenceOutput
from exporter.parity.paths import Subgraph, SubgraphCache
from runtime.artifact.open import Artifact
from runtime.evidence import Stage, WholeCheck

# Rows that go through the graph at once.
_ROWS = 4096

# Relative to the largest value of a feature: a few roundings of float32.
_LIMIT = 1e-6

_STAGE: Stage = "arithmetic"


def check_categories(
    artifact: Artifact,
    transform: TabularTransform,
    profiles: Sequence[Profile],
    middle: Mapping[str, Any],
    subgraph: Subgraph,
    arrays_of: Any,
) -> WholeCheck:
    """Return the check of every category, each alone in the row ``middle``, with the user's fitted transform.

    ``subgraph`` is the part of the graph from columns to features, and ``arrays_of`` gives what it takes for a row.
    """
    cells = [(profile.name, category) for profile in profiles for category in profile.categories]
    finding = ""
    run = SubgraphCache(artifact, lambda: None).stage(_STAGE, subgraph).run
    for start in range(0, len(cells), _ROWS):
        part = cells[start : start + _ROWS]
        rows = [{**middle, name: category} for name, category in part]
        try:
            actual = next(iter(run(_reference(list(map(arrays_of, rows)))).values()))
        except Exception as error:  # onnxruntime's exceptions have no common type of their own
            finding = f"the graph does not take them: {error}"
            break
        wrong = next(_wrong_rows(actual, transform.transform(rows)), None)
        if wrong is not None:
            name, category = part[wrong]
            finding = f"column '{name}', category {category!r}: the graph gives other features than the transform"
            break
    return WholeCheck(
        subject="categories",
        path=subgraph.graph,
        stage=_STAGE,
        count=len(cells),
        fault="value" if finding else None,
        finding=f"the categories: {finding}" if finding else "",
    )


def _wrong_rows(actual: NDArray[Any], expected: NDArray[Any]) -> Iterator[int]:
    if actual.shape != expected.shape:
        yield 0
        return
    off = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    # A NaN compares false with any limit, and so is wrong.
    yield from np.flatnonzero(~(off <= _LIMIT * np.abs(expected).max(axis=0)).all(axis=1)).tolist()


def _reference(arrays: Sequence[Mapping[str, NDArray[Any]]]) -> ReferenceOutput:
    batch = {name: np.concatenate([row[name] for row in arrays]) for name in arrays[0]}
    prepared = PreparedInput(arrays=batch, tensors={})
    case = Case(name="categories", data=b"")
    return ReferenceOutput(case=case, prepared=prepared, inner={}, outputs={})

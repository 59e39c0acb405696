"""Which known architectures have exactly these tensors. Needs no torch: the answer is in the index."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.architectures.fingerprints import Table, Template, is_variable, read_table, solve
from exporter.architectures.heads import LinearHead, UnknownHead, find_head, renamed_head
from exporter.architectures.keys import COUNTER, Shapes, prefix_maps

_NEAREST = 5
# Architectures with a head of their own kind are looked at one by one, from the best match down.
_EXAMINED = 60


@dataclass(frozen=True, kw_only=True)
class Fit:
    """An architecture and how much of it is there: ``matched`` of ``total`` tensors (batch norm's counters aside).

    ``exact`` means all of both: it can be rebuilt. ``traits`` are hashes of what the weights cannot tell.
    """

    architecture: str
    arguments: Mapping[str, Any]
    matched: int
    total: int
    exact: bool
    num_classes: int | None
    in_channels: int | None
    head: LinearHead | UnknownHead | None = None
    traits: Mapping[str, str] = field(default_factory=dict)


def identify(shapes: Shapes) -> list[Fit]:
    """Return the architectures that fit these tensors, torchvision's first, or else the nearest few, the best first.

    Every torchvision model, and where timm is installed every timm model, that the index knows.
    """
    table = read_table()
    usable = np.array([not name.startswith("timm:") or _has_timm() for name in table.names])
    exact: dict[str, Fit] = {}
    nearest: dict[str, Fit] = {}
    for key_map in prefix_maps(shapes):
        found = {key: shape for key, shape in key_map.apply(shapes).items() if not key.endswith(COUNTER)}
        present, values = _present(table, found)
        matched = np.add.reduceat(present[table.rows], table.starts[:-1]) * usable
        totals = np.diff(table.starts)
        # Both ways: much of the architecture is there, and it explains much of what is there.
        share = matched / np.maximum(totals, len(found))
        for row in np.argsort(-share, kind="stable")[:_EXAMINED]:
            if not matched[row]:
                break
            fit = _examine(table, int(row), found, values, int(matched[row]))
            if fit.exact:
                exact.setdefault(fit.architecture, fit)
            elif fit.architecture not in nearest or nearest[fit.architecture].matched < fit.matched:
                nearest[fit.architecture] = fit
    if exact:
        return sorted(exact.values(), key=lambda fit: fit.architecture.startswith("timm:"))
    ranked = sorted(nearest.values(), key=lambda fit: -fit.matched / max(fit.total, len(shapes)))
    return ranked[:_NEAREST]


def cannot_tell(fits: list[Fit]) -> tuple[str, ...]:
    """Return what differs between architectures that fit equally, and that shapes do not show."""
    names = dict.fromkeys(name for fit in fits for name in fit.traits)
    return tuple(name for name in names if len({fit.traits.get(name) for fit in fits}) > 1)


def _has_timm() -> bool:
    return find_spec("timm") is not None


def _present(table: Table, found: Shapes) -> tuple[npt.NDArray[np.int64], dict[int, dict[str, int]]]:
    """Return which of the index's tensors are there, and the values of their variable lengths, by place."""
    present = np.zeros(len(table.keys), np.int64)
    values: dict[int, dict[str, int]] = {}
    by_key = _places(table)
    for key, shape in found.items():
        for place in by_key.get(key, ()):
            solved = solve(table.templates[place], shape)
            if solved is not None:
                present[place] = 1
                if solved:
                    values[place] = solved
    return present, values


_by_key: dict[int, dict[str, list[int]]] = {}


def _places(table: Table) -> Mapping[str, list[int]]:
    if id(table) not in _by_key:
        places: dict[str, list[int]] = {}
        for place, key in enumerate(table.keys):
            places.setdefault(key, []).append(place)
        _by_key[id(table)] = places
    return _by_key[id(table)]


def _examine(table: Table, row: int, found: Shapes, values: Mapping[int, dict[str, int]], matched: int) -> Fit:
    name = table.names[row]
    known = table.index.architectures[name]
    places = table.rows[table.starts[row] : table.starts[row + 1]]
    arguments = dict(known.arguments)
    head: LinearHead | UnknownHead | None = None
    solved = [values[place] for place in map(int, places) if place in values]
    exact = matched == len(places) == len(found)
    if not exact:
        expected = {table.keys[place]: _typical(table.templates[place]) for place in map(int, places)}
        head = find_head(found, expected)
        if isinstance(head, LinearHead):
            moved, _ = renamed_head(head, found)
            solved, exact, matched = _with_head(table, places, moved, head)
        elif name.startswith("timm:") and len(found) == matched:
            # timm builds any model without its head: a backbone.
            missing = [place for place in map(int, places) if table.keys[place] not in found]
            exact = all("c" in "".join(table.templates[place]) for place in missing)
            arguments |= {"num_classes": 0} if exact else {}
    classes = {one["c"] for one in solved if "c" in one}
    channels = {one["i"] for one in solved if "i" in one}
    if isinstance(head, LinearHead):
        classes = {head.out_features} if head.whole else classes
    return Fit(
        architecture=name.partition(" ")[0],
        arguments=arguments,
        matched=matched,
        total=len(places),
        exact=exact and len(classes) <= 1 and len(channels) <= 1,
        num_classes=next(iter(classes), None) if len(classes) == 1 else None,
        in_channels=next(iter(channels), None) if len(channels) == 1 else None,
        head=head,
        traits=known.traits,
    )


def _with_head(
    table: Table, places: npt.NDArray[np.int64], found: Shapes, head: LinearHead
) -> tuple[list[dict[str, int]], bool, int]:
    """Return the variable lengths, whether all fits, and how many match, with the head where it belongs."""
    own = set(_head_keys(head)) if head.whole else set()
    replaced = f"{head.place}."
    solved, matched, fits, seen = [], len(own), True, len(own)
    for place in map(int, places):
        key = table.keys[place]
        if own and key.startswith(replaced):
            continue
        values = solve(table.templates[place], found[key]) if key in found else None
        fits = fits and values is not None
        seen += key in found
        if values is not None:
            matched += 1
            solved.append(values)
    return solved, fits and seen == len(found), matched


def _head_keys(head: LinearHead) -> Iterator[str]:
    yield f"{head.place}.weight"
    if head.bias:
        yield f"{head.place}.bias"


def _typical(template: Template) -> tuple[int, ...]:
    if not is_variable(template):
        return tuple(map(int, template))
    return tuple(
        3 if length == "1i+0" else -1 if "c" in length or "i" in length else int(length) for length in template
    )

"""Identification of architectures by their tensors; needs no torch, only the index."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.architectures import TIMM
from exporter.architectures.fingerprints import Table, Template, is_variable, read_table, solve
from exporter.architectures.heads import LinearHead, UnknownHead, find_head, renamed_head
from exporter.architectures.keys import COUNTER, Shapes, prefix_maps
from exporter.checkpoint.description import EXTRA_STATE

_NEAREST = 5
# A group of keys of a loss or a metric has at most so many, and so many groups are left out in turn.
_SMALL, _TRIED = 2, 4
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
    shapes = {key: shape for key, shape in shapes.items() if shape != EXTRA_STATE}
    usable = np.array([not name.startswith(TIMM) or _has_timm() for name in table.names])
    exact: dict[str, Fit] = {}
    nearest: dict[str, Fit] = {}
    for key_map in prefix_maps(shapes):
        mapped = {key: shape for key, shape in key_map.apply(shapes).items() if not key.endswith(COUNTER)}
        present, values = _present(table, mapped)
        matched = np.add.reduceat(present[table.rows], table.starts[:-1]) * usable
        totals = np.diff(table.starts)
        # Both ways: much of the architecture is there, and it explains much of what is there.
        share = matched / np.maximum(totals, len(mapped))
        for row in np.argsort(-share, kind="stable")[:_EXAMINED]:
            if not matched[row]:
                break
            fit = _examine(table, int(row), mapped, values, int(matched[row]))
            if fit.exact:
                exact.setdefault(fit.architecture, fit)
            elif fit.architecture not in nearest or nearest[fit.architecture].matched < fit.matched:
                nearest[fit.architecture] = fit
    if exact:
        return sorted(exact.values(), key=lambda fit: fit.architecture.startswith(TIMM))
    ranked = sorted(nearest.values(), key=lambda fit: -fit.matched / max(fit.total, len(shapes)))
    return ranked[:_NEAREST]


def identify_part(shapes: Shapes) -> tuple[list[Fit], tuple[str, ...]]:
    """Return the architectures that fit all but a few of these tensors exactly, and the keys of those.

    The few are not under the first part of keys that most are under, such as a loss's weights beside a model.
    """
    tops: dict[str, list[str]] = {}
    for key in shapes:
        tops.setdefault(key.partition(".")[0], []).append(key)
    for kept in ([max(tops.values(), key=len)] if len(tops) > 1 else []) + _without_small(tops):
        others = tuple(key for key in shapes if key not in set(kept))
        fits = [fit for fit in identify({key: shapes[key] for key in kept}) if fit.exact]
        if fits:
            return fits, others
    return [], ()


def _without_small(tops: Mapping[str, list[str]]) -> list[list[str]]:
    """Return the keys without those of each group of one or two tensors, as a loss or a metric has them."""
    small = [top for top, keys in tops.items() if len(keys) <= _SMALL]
    return [[key for name, keys in tops.items() if name != top for key in keys] for top in small[:_TRIED]]


def cannot_tell(fits: list[Fit]) -> tuple[str, ...]:
    """Return what differs between architectures that fit equally, and that shapes do not show."""
    names = dict.fromkeys(name for fit in fits for name in fit.traits)
    return tuple(name for name in names if len({fit.traits.get(name) for fit in fits}) > 1)


def _has_timm() -> bool:
    return find_spec("timm") is not None


def _present(table: Table, shapes: Shapes) -> tuple[npt.NDArray[np.int64], dict[int, dict[str, int]]]:
    """Return which of the index's tensors are there, and the values of their variable lengths, by place."""
    present = np.zeros(len(table.keys), np.int64)
    values: dict[int, dict[str, int]] = {}
    by_key = _indices_by_key(table)
    for key, shape in shapes.items():
        for index in by_key.get(key, ()):
            solved = solve(table.templates[index], shape)
            if solved is not None:
                present[index] = 1
                if solved:
                    values[index] = solved
    return present, values


_by_key: dict[int, dict[str, list[int]]] = {}


def _indices_by_key(table: Table) -> Mapping[str, list[int]]:
    if id(table) not in _by_key:
        indices: dict[str, list[int]] = {}
        for index, key in enumerate(table.keys):
            indices.setdefault(key, []).append(index)
        _by_key[id(table)] = indices
    return _by_key[id(table)]


def _examine(table: Table, row: int, shapes: Shapes, values: Mapping[int, dict[str, int]], matched: int) -> Fit:
    name = table.names[row]
    known = table.index.architectures[name]
    indices = table.rows[table.starts[row] : table.starts[row + 1]]
    arguments = dict(known.arguments)
    head: LinearHead | UnknownHead | None = None
    solved = [values[index] for index in map(int, indices) if index in values]
    exact = matched == len(indices) == len(shapes)
    if not exact:
        expected = {table.keys[index]: _typical(table.templates[index]) for index in map(int, indices)}
        head = find_head(shapes, expected)
        if isinstance(head, LinearHead):
            moved, _ = renamed_head(head, shapes)
            solved, exact, matched = _with_head(table, indices, moved, head)
        elif name.startswith(TIMM) and len(shapes) == matched:
            # timm builds any model without its head: a backbone.
            missing = [index for index in map(int, indices) if table.keys[index] not in shapes]
            exact = all("c" in "".join(table.templates[index]) for index in missing)
            arguments |= {"num_classes": 0} if exact else {}
    classes = {lengths["c"] for lengths in solved if "c" in lengths}
    channels = {lengths["i"] for lengths in solved if "i" in lengths}
    if isinstance(head, LinearHead):
        classes = {head.out_features} if head.whole else classes
    return Fit(
        architecture=name.partition(" ")[0],
        arguments=arguments,
        matched=matched,
        total=len(indices),
        exact=exact and len(classes) <= 1 and len(channels) <= 1,
        num_classes=next(iter(classes), None) if len(classes) == 1 else None,
        in_channels=next(iter(channels), None) if len(channels) == 1 else None,
        head=head,
        traits=known.traits,
    )


def _with_head(
    table: Table, indices: npt.NDArray[np.int64], shapes: Shapes, head: LinearHead
) -> tuple[list[dict[str, int]], bool, int]:
    """Return the variable lengths, whether all fits, and how many match, with the head where it belongs."""
    own = set(_head_keys(head)) if head.whole else set()
    replaced = f"{head.target}."
    solved, matched, fits, present = [], len(own), True, len(own)
    for index in map(int, indices):
        key = table.keys[index]
        if own and key.startswith(replaced):
            continue
        values = solve(table.templates[index], shapes[key]) if key in shapes else None
        fits = fits and values is not None
        present += key in shapes
        if values is not None:
            matched += 1
            solved.append(values)
    return solved, fits and present == len(shapes), matched


def _head_keys(head: LinearHead) -> Iterator[str]:
    yield f"{head.target}.weight"
    if head.bias:
        yield f"{head.target}.bias"


def _typical(template: Template) -> tuple[int, ...]:
    if not is_variable(template):
        return tuple(map(int, template))
    return tuple(
        3 if length == "1i+0" else -1 if "c" in length or "i" in length else int(length) for length in template
    )

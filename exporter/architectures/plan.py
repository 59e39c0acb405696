"""Plans of a rebuilt network: how the keys and shapes of a checkpoint become those of an architecture."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from exporter.architectures.heads import (
    LinearHead,
    UnknownHead,
    class_counts,
    find_head,
    input_channels,
    renamed_head,
    shape_differences,
)
from exporter.architectures.keys import KeyMap, Shapes, solve_keys
from exporter.architectures.meta_models import build_skeleton, shapes_of
from exporter.architectures.registry import Blueprint, build
from exporter.checkpoint import Checkpoint
from exporter.checkpoint.description import EXTRA_STATE
from exporter.checkpoint.ignored_keys import matches_any


@dataclass(frozen=True, kw_only=True)
class RebuildPlan:
    """One way to fit: ``shapes`` are the checkpoint's by the network's keys, ``source_of`` the checkpoint's keys.

    ``buffers`` are keys of the network, of which ``kept`` stay as its constructor fills them, as the user asked for.
    """

    arguments: Mapping[str, Any]
    head: LinearHead | UnknownHead | None
    stem: tuple[str, int] | None
    key_map: KeyMap
    renamed: Mapping[str, str]
    shapes: Shapes
    source_of: Mapping[str, str]
    expected: Shapes
    tied: Mapping[str, str]
    kept: tuple[str, ...]
    buffers: frozenset[str]

    @property
    def fits(self) -> bool:
        """Whether every tensor has its key and its shape."""
        return not shape_differences({**self.shapes, **{key: self.expected[key] for key in self.tied}}, self.expected)

    @property
    def new_head(self) -> LinearHead | None:
        """The layer that replaces everything at its target; None where a layer of the architecture's is the head."""
        head = self.head
        if isinstance(head, LinearHead) and head.whole and f"{head.target}.weight" in self.expected:
            return head
        return None

    @property
    def matched(self) -> int:
        """The number of the network's tensors that are there, in their shapes."""
        return sum(self.shapes.get(key) == shape for key, shape in self.expected.items())


def plan_rebuild(blueprint: Blueprint, arguments: Mapping[str, Any], checkpoint: Checkpoint) -> RebuildPlan:
    """Return the first way that fits, or else the one that fits the most."""
    best: RebuildPlan | None = None
    for plan in _plans(blueprint, arguments, checkpoint.shapes, checkpoint.ignore_keys):
        if best is None or plan.matched > best.matched or plan.fits:
            best = plan
        if plan.fits:
            break
    assert best is not None
    return best


def _plans(
    blueprint: Blueprint, arguments: Mapping[str, Any], shapes: Shapes, ignore_keys: Sequence[str]
) -> Iterator[RebuildPlan]:
    fit = partial(_fit, blueprint, shapes=shapes, ignore_keys=ignore_keys)
    for variant in blueprint.variants:
        own = {**variant, **arguments}
        plain = fit(own)
        yield plain
        if plain.fits or not (blueprint.resizable or blueprint.classes):
            continue
        head, stem = plain.head, plain.stem
        sizes: dict[str, Any] = {}
        if stem and blueprint.channels and blueprint.channels not in arguments:
            sizes[blueprint.channels], stem = stem[1], None
        counts: list[int | None] = [None]
        if blueprint.classes and blueprint.classes not in arguments:
            if isinstance(head, LinearHead):
                counts = [None] if head.whole else [head.out_features]
            else:
                counts = [*class_counts(plain.shapes, plain.expected)] or [None]
            if blueprint.channels:
                # timm builds any model without its head, and some without unless asked.
                new = shape_differences(plain.shapes, plain.expected).unexpected
                counts += sorted({plain.shapes[key][0] for key in new if plain.shapes[key]})[:4] or [0]
        for count in counts:
            sized = {**own, **sizes} | ({blueprint.classes: count} if count is not None else {})
            yield fit(sized, head=head if blueprint.resizable else None, stem=stem)


def _fit(
    blueprint: Blueprint,
    arguments: Mapping[str, Any],
    *,
    shapes: Shapes,
    ignore_keys: Sequence[str],
    head: LinearHead | UnknownHead | None = None,
    stem: tuple[str, int] | None = None,
) -> RebuildPlan:
    """Compare the checkpoint with the network of these arguments, its head and stem replaced where given."""
    try:
        skeleton = build_skeleton(blueprint.build, arguments)
    except Exception:  # building it for real says what is wrong
        skeleton = build(blueprint, arguments)
    if not isinstance(skeleton, nn.Module):  # the user's factory gives something else
        build(blueprint, arguments)
    expected = shapes_of(skeleton)
    tied_keys = _tied_keys(skeleton)
    key_map = solve_keys(shapes, expected, rename=blueprint.rename)
    moved = key_map.apply(shapes)
    if stem is not None:
        expected[stem[0]] = (expected[stem[0]][0], stem[1], *expected[stem[0]][2:])
    detected = head or find_head(moved, expected)
    renamed: Mapping[str, str] = {}
    if isinstance(head, LinearHead):
        moved, renamed = renamed_head(head, moved)
        if head.whole:
            expected = {key: shape for key, shape in expected.items() if not key.startswith(f"{head.target}.")}
            expected[f"{head.target}.weight"] = (head.out_features, head.in_features)
            if head.bias:
                expected[f"{head.target}.bias"] = (head.out_features,)
    buffers = frozenset(name for name, _ in skeleton.named_buffers(remove_duplicate=False))
    kept = tuple(key for key in expected if key in buffers and key not in moved and matches_any(key, ignore_keys))
    own = {key for key, shape in expected.items() if shape == EXTRA_STATE and key not in moved}
    expected = {key: shape for key, shape in expected.items() if key not in own and key not in kept}
    tied = {key: twin for key, twin in tied_keys.items() if key in expected and key not in moved and twin in moved}
    return RebuildPlan(
        arguments=arguments,
        head=detected,
        stem=stem or input_channels(moved, expected),
        key_map=key_map,
        renamed=renamed,
        shapes=moved,
        source_of={renamed.get(new, new): old for new, old in key_map.source_of.items()},
        expected=expected,
        tied=tied,
        kept=kept,
        buffers=buffers,
    )


def _tied_keys(network: nn.Module) -> dict[str, str]:
    """Return the keys that share a tensor with another key: safetensors keeps only one of them."""
    groups: dict[int, list[str]] = {}
    for key, parameter in network.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(key)
    return {
        key: next(other for other in keys if other != key) for keys in groups.values() if len(keys) > 1 for key in keys
    }

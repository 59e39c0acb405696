"""Heads and stems of another size, inferred from fine-tuned tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.architectures.keys import COUNTER, Shapes, shared_parts


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """One linear layer in place of the architecture's head: ``source`` in the checkpoint becomes ``target``.

    ``whole`` means that it replaces everything at ``target``; otherwise it takes the name of the layer there.
    """

    source: str
    target: str
    in_features: int
    out_features: int
    bias: bool
    whole: bool


@dataclass(frozen=True, kw_only=True)
class UnknownHead:
    """Several layers that the architecture does not have, with something unknown between them."""

    target: str
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ShapeDifferences:
    """What keeps a checkpoint from fitting; counters of batch norm left out."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)


def shape_differences(shapes: Shapes, expected: Shapes) -> ShapeDifferences:
    """Return how ``shapes`` differ from ``expected``, by key and shape."""
    return ShapeDifferences(
        missing=tuple(key for key in expected if key not in shapes and not key.endswith(COUNTER)),
        unexpected=tuple(key for key in shapes if key not in expected),
        reshaped=tuple(key for key in expected if key in shapes and shapes[key] != expected[key]),
    )


def find_head(shapes: Shapes, expected: Shapes) -> LinearHead | UnknownHead | None:
    """Return the head that replaced the architecture's own, or None where that is not the difference.

    Dropout and flattening have no tensors and are the identity on the way to a score, so one linear layer is certain,
    at any position in a Sequential.
    """
    difference = shape_differences(shapes, expected)
    reshaped = tuple(key for key in difference.reshaped if len(shapes[key]) <= 2 and key not in _stem(shapes, expected))
    new = _owners((*difference.unexpected, *reshaped))
    old = _owners((*difference.missing, *reshaped))
    if not new or not old or not difference.unexpected + difference.missing:
        return None
    target = _common(old)
    if not target or not all(_related(owner, target) for owner in new):
        return None
    linear = [owner for owner in new if len(shapes.get(f"{owner}.weight", ())) == 2]
    if len(new) > 1:
        return UnknownHead(target=target, layers=tuple(new)) if linear else None
    (owner,) = new
    parts = {key.rpartition(".")[2] for key in (*difference.unexpected, *reshaped)}
    if not linear or not parts <= {"weight", "bias"}:
        return None
    out_features, in_features = shapes[f"{owner}.weight"]
    first = next((key for key in expected if _under(key, target) and len(expected[key]) in (2, 4)), None)
    if first is None or expected[first][1] != in_features:
        return None
    single = len(old) == 1 and f"{target}.weight" in expected
    bias = f"{owner}.bias" in shapes
    whole = not single or bias != (f"{target}.bias" in expected) or len(expected[first]) != 2
    return LinearHead(
        source=owner, target=target, in_features=in_features, out_features=out_features, bias=bias, whole=whole
    )


def class_counts(shapes: Shapes, expected: Shapes) -> list[int]:
    """Return the numbers of classes that tensors differing in their first length alone allow, the likeliest first."""
    lengths = sorted(
        {
            shapes[key][0]
            for key in shape_differences(shapes, expected).reshaped
            if shapes[key] and expected[key] and shapes[key][1:] == expected[key][1:]
        }
    )
    if not lengths:
        return []
    # A detector has several lengths a class: four corners, or so many anchors.
    parts = {length // part for length in lengths for part in (4, 9, 6, 3) if length % part == 0}
    return [*lengths[:4], *sorted(parts - set(lengths), reverse=True)]


def input_channels(shapes: Shapes, expected: Shapes) -> tuple[str, int] | None:
    """Return the key of the first convolution and its number of input channels, where that alone differs."""
    stem = _stem(shapes, expected)
    channels = {shapes[key][1] for key in stem}
    return (stem[0], channels.pop()) if stem and len(channels) == 1 else None


def _stem(shapes: Shapes, expected: Shapes) -> list[str]:
    return [
        key
        for key, shape in expected.items()
        if len(shape) > 3
        and shape[1] == 3
        and len(shapes.get(key, ())) == len(shape)
        and shapes[key][1] != 3
        and (shapes[key][0], *shapes[key][2:]) == (shape[0], *shape[2:])
    ]


def _owners(keys: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(key.rpartition(".")[0] for key in keys))


def _common(owners: list[str]) -> str:
    return ".".join(shared_parts(owner.split(".") for owner in owners))


def _related(owner: str, target: str) -> bool:
    """Return whether a new layer replaces the old head: inside it, above it, or next to it in a Sequential."""
    if owner == target or owner.startswith(f"{target}.") or target.startswith(f"{owner}."):
        return True
    parent, _, last = target.rpartition(".")
    own_parent, _, own_last = owner.rpartition(".")
    return parent == own_parent != "" and last.isdigit() and own_last.isdigit()


def _under(key: str, target: str) -> bool:
    return key.startswith(f"{target}.")


def renamed_head(head: LinearHead, shapes: Shapes) -> tuple[dict[str, tuple[int, ...]], Mapping[str, str]]:
    """Return ``shapes`` with the head under its target, and the keys that this renames, old to new."""
    renamed = {f"{head.source}.{part}": f"{head.target}.{part}" for part in ("weight", "bias")}
    renamed = {old: new for old, new in renamed.items() if old in shapes and old != new}
    return {renamed.get(key, key): shape for key, shape in shapes.items()}, renamed

"""Heads and stems of another size, read from the tensors that fine-tuning leaves."""

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.architectures.keys import COUNTER, Shapes


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """One linear layer where the architecture has its head: in the checkpoint at ``found``, to go to ``place``.

    ``whole`` means that everything at ``place`` gives way to it; otherwise it takes the name of the layer there.
    """

    found: str
    place: str
    in_features: int
    out_features: int
    bias: bool
    whole: bool


@dataclass(frozen=True, kw_only=True)
class UnknownHead:
    """Several layers that the architecture does not have, with something unknown between them."""

    place: str
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What keeps a checkpoint from fitting; counters of batch norm left out."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)


def differences(found: Shapes, expected: Shapes) -> Differences:
    """Return how ``found`` differs from ``expected``, by key and shape."""
    return Differences(
        missing=tuple(key for key in expected if key not in found and not key.endswith(COUNTER)),
        unexpected=tuple(key for key in found if key not in expected),
        reshaped=tuple(key for key in expected if key in found and found[key] != expected[key]),
    )


def find_head(found: Shapes, expected: Shapes) -> LinearHead | UnknownHead | None:
    """Return the head that was put in the place of the architecture's own, or None where that is not the difference.

    Dropout and flattening have no tensors and are the identity on the way to a score, so one linear layer is certain,
    wherever in a Sequential it stands.
    """
    off = differences(found, expected)
    reshaped = tuple(key for key in off.reshaped if len(found[key]) <= 2 and key not in _stem(found, expected))
    new = _owners((*off.unexpected, *reshaped))
    old = _owners((*off.missing, *reshaped))
    if not new or not old or not off.unexpected + off.missing:
        return None
    place = _common(old)
    if not place or not all(_related(owner, place) for owner in new):
        return None
    linear = [owner for owner in new if len(found.get(f"{owner}.weight", ())) == 2]
    if len(new) > 1:
        return UnknownHead(place=place, layers=tuple(new)) if linear else None
    (owner,) = new
    parts = {key.rpartition(".")[2] for key in (*off.unexpected, *reshaped)}
    if not linear or not parts <= {"weight", "bias"}:
        return None
    out_features, in_features = found[f"{owner}.weight"]
    first = next((key for key in expected if _under(key, place) and len(expected[key]) in (2, 4)), None)
    if first is None or expected[first][1] != in_features:
        return None
    single = len(old) == 1 and f"{place}.weight" in expected
    bias = f"{owner}.bias" in found
    whole = not single or bias != (f"{place}.bias" in expected) or len(expected[first]) != 2
    return LinearHead(
        found=owner, place=place, in_features=in_features, out_features=out_features, bias=bias, whole=whole
    )


def class_counts(found: Shapes, expected: Shapes) -> list[int]:
    """Return the numbers of classes that tensors differing in their first length alone allow, the likeliest first."""
    lengths = sorted(
        {
            found[key][0]
            for key in differences(found, expected).reshaped
            if found[key] and expected[key] and found[key][1:] == expected[key][1:]
        }
    )
    if not lengths:
        return []
    # A detector has several lengths a class: four corners, or so many anchors.
    parts = {length // part for length in lengths for part in (4, 9, 6, 3) if length % part == 0}
    return [*lengths[:4], *sorted(parts - set(lengths), reverse=True)]


def input_channels(found: Shapes, expected: Shapes) -> tuple[str, int] | None:
    """Return the key of the first convolution and its number of input channels, where that alone differs."""
    stem = _stem(found, expected)
    channels = {found[key][1] for key in stem}
    return (stem[0], channels.pop()) if stem and len(channels) == 1 else None


def _stem(found: Shapes, expected: Shapes) -> list[str]:
    return [
        key
        for key, shape in expected.items()
        if len(shape) > 3
        and shape[1] == 3
        and len(found.get(key, ())) == len(shape)
        and found[key][1] != 3
        and (found[key][0], *found[key][2:]) == (shape[0], *shape[2:])
    ]


def _owners(keys: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(key.rpartition(".")[0] for key in keys))


def _common(owners: list[str]) -> str:
    parts = owners[0].split(".")
    for owner in owners[1:]:
        own = owner.split(".")
        parts = parts[: _shared(parts, own)]
    return ".".join(parts)


def _shared(one: list[str], other: list[str]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


def _related(owner: str, place: str) -> bool:
    """Return whether a new layer stands where the old head is: in it, above it, or beside it in a Sequential."""
    if owner == place or owner.startswith(f"{place}.") or place.startswith(f"{owner}."):
        return True
    parent, _, last = place.rpartition(".")
    own_parent, _, own_last = owner.rpartition(".")
    return parent == own_parent != "" and last.isdigit() and own_last.isdigit()


def _under(key: str, place: str) -> bool:
    return key.startswith(f"{place}.")


def renamed_head(head: LinearHead, shapes: Shapes) -> tuple[dict[str, tuple[int, ...]], Mapping[str, str]]:
    """Return ``shapes`` with the head under the place it goes to, and the keys that this renames, old to new."""
    renamed = {f"{head.found}.{part}": f"{head.place}.{part}" for part in ("weight", "bias")}
    renamed = {old: new for old, new in renamed.items() if old in shapes and old != new}
    return {renamed.get(key, key): shape for key, shape in shapes.items()}, renamed

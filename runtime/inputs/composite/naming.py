"""Names of the tensors and dimensions of an input's parts, unique over all of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from runtime.errors import InputError

V = TypeVar("V")


def tensor_name(part: str, tensor: str) -> str:
    """Return the name that a part's tensor has beside those of other parts: its own where that is the part's.

    So a photo is ``photo``, its prepared pixels are ``photo.pixels``, and the column of a row is ``row.age``.
    """
    return tensor if tensor == part else f"{part}.{tensor}"


def dimension_name(part: str, dimension: str) -> str:
    """Return the name of a dimension that each part has for itself, such as ``photo_height``."""
    return f"{part}_{dimension}"


def name_tensors(part: str, tensors: Mapping[str, V]) -> dict[str, V]:
    """Return a part's tensors by the names that they have beside those of other parts."""
    return {tensor_name(part, name): tensor for name, tensor in tensors.items()}


def own_tensors(part: str, tensors: Mapping[str, V]) -> dict[str, V]:
    """Return a part's tensors by their own names, out of those of all parts."""
    prefix = tensor_name(part, "")
    return {
        name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name == part or name.startswith(prefix)
    }


def part_subject(subject: str, part: str) -> str:
    """Return what messages call a part of an input."""
    return f"{subject}: part '{part}'"


@contextmanager
def part_errors(part: str) -> Iterator[None]:
    """Name the part in the InputErrors of the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"part '{part}': {error}") from None

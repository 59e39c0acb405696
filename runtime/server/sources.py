"""Inputs of a prediction request: accepted or rejected."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class AcceptedInput:
    """An input that could be read from its request.

    ``name`` is what its row and its messages call it. ``value`` is what ``Model.decode`` takes, never a path.
    """

    name: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class RejectedInput:
    """An input that could not be read from its request, with the reason: only its own row fails."""

    name: str
    error: InputError


InputSource: TypeAlias = AcceptedInput | RejectedInput


def read_input(name: str, read: Callable[[], Any]) -> InputSource:
    """Return the input that ``read`` returns, or the rejection of it where ``read`` raises InputError."""
    try:
        return AcceptedInput(name=name, value=read())
    except InputError as error:
        return RejectedInput(name=name, error=error)

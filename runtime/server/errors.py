"""Errors of a request; each front end has one table from these to its statuses.

::

    ModelError
    ├── InputError
    │   ├── NotFoundError     no such model, version or path
    │   ├── MethodError       the path exists, for another method
    │   ├── MediaTypeError    an unsupported content type or encoding
    │   ├── TooLargeError     more bytes or inputs than one request may hold
    │   └── TokenError        the bearer token is missing or wrong
    ├── BusyError
    │   ├── QueueFullError    refused before any work; says when to try again
    │   └── StoppingError     the server is starting or stopping
    └── LateError
        ├── DeadlineError     the deadline passed first
        └── ClientLeftError   the client closed its connection
"""

from collections.abc import Mapping
from typing import TypeVar

from runtime.errors import BusyError, InputError, ModelError, TruecopyError

T = TypeVar("T")

# The most characters of a message to a client, or in a line of the log: an error repeats some of what was sent.
MESSAGE_CHARACTERS = 500


class NotFoundError(InputError):
    """There is no such model, version or path."""


class MethodError(InputError):
    """The path exists, for another method."""


class MediaTypeError(InputError):
    """The content type or encoding is not supported."""


class TooLargeError(InputError):
    """The request holds more bytes or inputs than one request may."""


class TokenError(InputError):
    """The bearer token is missing or wrong."""


class QueueFullError(BusyError):
    """The request was refused before any work; ``retry_after_s`` is when to try again, in whole seconds."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoppingError(BusyError):
    """The server takes no requests: it is starting or stopping."""


class LateError(ModelError):
    """The response would come too late to be of use."""


class DeadlineError(LateError):
    """The request's deadline passed before its response was ready."""


class ClientLeftError(LateError):
    """The client closed its connection; its work is dropped."""

    def __init__(self, message: str = "request: the client disconnected before its response was ready.") -> None:
        super().__init__(message)


def bounded(text: str, most: int = MESSAGE_CHARACTERS) -> str:
    """Return ``text``, with its middle left out where it has more than ``most`` characters: its end has the fix."""
    if len(text) > most:
        end = most // 3
        text = f"{text[: most - end - 5]} ... {text[-end:]}"
    # Lone surrogates, which JSON can hold, have no UTF-8.
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text


def message_of(error: TruecopyError) -> str:
    """Return the message of an error for the client and the log, of at most ``MESSAGE_CHARACTERS``."""
    return bounded(str(error))


def find_status(error: TruecopyError, statuses: Mapping[type[TruecopyError], T]) -> T:
    """Return the entry of an error's class in a front end's table, or that of its nearest base class."""
    return next(statuses[kind] for kind in type(error).__mro__ if kind in statuses)

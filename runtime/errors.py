"""Errors of the runtime, by who can fix them.

::

    TruecopyError
    ├── ModelError
    │   ├── ArtifactError   export again: the artifact is damaged, foreign or too new
    │   ├── InputError      the caller's input is wrong
    │   ├── DeviceError     this machine cannot use the requested device
    │   └── BusyError       the server is full: try again later
    └── exporter.ExportError, for everything that needs PyTorch

Every message reads ``<subject>: <problem>. <fix>.``, with ``expected X, got Y`` where both carry information.
"""

from collections.abc import Sequence

# The longest message about an input: inputs, and so names and values in them, may be of any length.
MAX_MESSAGE = 500

# How much of a long message's end is kept, where the fix is.
_KEPT_END = 150


class TruecopyError(Exception):
    """Base class of all errors that this project raises on purpose; the message is one sentence for people."""


class ModelError(TruecopyError):
    """Loading or running an artifact failed."""


class ArtifactError(ModelError):
    """The artifact is damaged, foreign or newer than this runtime: export it again.

    The message has at most 500 characters.
    """

    def __init__(self, message: str) -> None:
        super().__init__(bounded(message))


class InputError(ModelError):
    """The caller's input cannot be used; other inputs are not affected. The message has at most 500 characters."""

    def __init__(self, message: str) -> None:
        super().__init__(bounded(message))


class DeviceError(ModelError):
    """This machine cannot run the artifact on the requested device."""


class BusyError(ModelError):
    """The server has as many requests as it accepts: try again later."""


def bounded(message: str, limit: int = MAX_MESSAGE) -> str:
    """Return a message of at most ``limit`` characters: of a longer one the beginning and the end, the fix."""
    if len(message) <= limit:
        return message
    gap = " ... "
    return message[: limit - _KEPT_END - len(gap)] + gap + message[-_KEPT_END:]


def listed(names: Sequence[str], limit: int = 10) -> str:
    """Return names for a message, separated by commas: at most ``limit`` of them, then how many more there are."""
    text = ", ".join(names[:limit])
    return text if len(names) <= limit else f"{text}, and {len(names) - limit} more"

"""The border of decoding: whatever it raises is the error of the request, or of its one input."""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from runtime.errors import InputError, TruecopyError
from runtime.server.errors import TooLargeError, bounded

T = TypeVar("T")

_logger = logging.getLogger("truecopy.server")

# These end the process or the task, and have nothing to do with what was decoded.
ENDINGS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)

_REASON_CHARACTERS = 200


def decode(function: Callable[[], T], subject: str) -> T:
    """Return the result of ``function``, which decodes or converts what a client sent.

    Our own errors pass. Anything else becomes an InputError with ``subject`` as the name of the input: libraries raise
    whatever the bytes lead them to, panics of Rust among them, which are no Exception.
    """
    try:
        return function()
    except (TruecopyError, *ENDINGS):
        raise
    except MemoryError:
        raise TooLargeError(f"{subject}: not enough memory to decode it. Use a smaller one.") from None
    except BaseException as error:
        reason = describe(error)
        _logger.debug("%s: cannot be decoded: %s", subject, reason, exc_info=error)
        raise InputError(f"{subject}: cannot be decoded: {reason}. Correct it.") from error


def detached(error: InputError) -> InputError:
    """Return ``error`` without its traceback and its cause, whose frames hold what was being decoded."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def describe(error: BaseException) -> str:
    """Return the class and the first line of an error that is not ours; its text may itself fail to be made."""
    name = type(error).__name__
    try:
        text = str(error).strip().partition("\n")[0].rstrip(".")
    except Exception:  # such as a number of more digits than Python prints
        text = ""
    return bounded(f"{name}: {text}" if text else name, _REASON_CHARACTERS)

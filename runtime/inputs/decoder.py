"""Interface of an input decoder."""

import errno
import inspect
import io
import logging
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from numpy.typing import NDArray

from runtime.errors import MAX_MESSAGE, InputError, TruecopyError, bounded
from runtime.manifest import BATCH, LengthRange

if TYPE_CHECKING:
    from PIL.Image import Image

# One input: more than any image of the largest size takes, encoded. Checked before a file is read.
MAX_FILE_BYTES = 2**30

# The warning of a size that was not compared with the eager model.
UNCOMPARED = "uncompared"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DecodedInput:
    """One input after decoding, as the ``prepare`` of its decoder takes it; each kind has its own subclass.

    ``warning`` is a key of the decoder's ``warnings`` where something about the input is to be counted and warned about
    once, such as a photo that asks for a rotation; empty otherwise.
    """

    warning: str = ""


# One input, as the artifact's kind takes it: a path, encoded bytes or an open file of them; an image or its pixels; a
# row or several inputs by name; an array or a number; a text.
Source: TypeAlias = "str | PathLike[str] | bytes | BinaryIO | Image | NDArray[Any] | Mapping[str, Any] | float"

# Lists that are one input of some kinds, a token sequence or a pair of texts, and several inputs of the others.
SequenceSource: TypeAlias = "list[int] | tuple[int, ...] | tuple[str, str]"

# One input after ``Model.prepare``: for images uint8 [height, width, 3]. ``bucket``, ``stack`` and ``score`` take it.
PreparedInput: TypeAlias = "NDArray[Any] | DecodedInput | tuple[PreparedInput | float | str, ...]"


class Decoder(ABC):
    """Decoder of one input kind: from a caller's input to arrays.

    The type of a prepared input is the kind's own: only ``bucket`` and ``stack`` look into it. ``batch_size`` is the
    largest batch where the model itself makes the batches. ``warnings`` are the texts of warnings, by the key that
    ``DecodedInput.warning`` names. ``refuses_lengths`` says that lengths which were not compared with the eager model
    are refused; without it, they are warned about. ``raw_names`` are those of ``raw_arrays`` that ``stack`` does not
    give: they tell the graph that takes raw inputs from the other.
    """

    batch_size: int
    refuses_lengths: bool = True
    raw_names: frozenset[str] = frozenset()
    warnings: Mapping[str, str] = MappingProxyType({})

    def is_list(self, inputs: object) -> bool:
        """Return whether ``inputs`` are several inputs, and not a single one that is a list."""
        return isinstance(inputs, list | tuple)

    def name(self, source: object, position: int) -> str:
        """Return the name of an input in messages and result rows: its path, or its position among the inputs."""
        return str(source) if isinstance(source, str | PathLike) else f"#{position}"

    @abstractmethod
    def decode(self, source: Any, *, subject: str) -> DecodedInput:
        """Return a caller's input, checked; raise InputError, with ``subject`` as its name, where it is wrong.

        Bytes are the input's encoded form: an image file, an .npy file, JSON.
        """

    def lengths(self, decoded: Any) -> Mapping[str, int]:
        """Return the lengths of a decoded input by the names of its dynamic dimensions; none where it has none."""
        del decoded
        return {}

    def refuses_length(self, dimension: str) -> bool:  # noqa: ARG002
        """Return whether lengths of this dimension that were not compared with the eager model are refused."""
        return self.refuses_lengths

    def refusable(self, lengths: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Return the lengths of dimensions that are refused where they were not compared, and the others."""
        refused = {name: length for name, length in lengths.items() if self.refuses_length(name)}
        return refused, {name: length for name, length in lengths.items() if name not in refused}

    @abstractmethod
    def prepare(self, decoded: Any) -> Any:
        """Return the prepared input: all that the host computes before the graph."""

    def slots(self, count: int) -> Sequence[Any]:
        """Return memory for ``count`` prepared inputs of a batch, next to each other; None for each that gets its own.

        ``stack`` copies nothing of inputs that ``prepare_into`` wrote to neighboring slots.
        """
        return [None] * count

    def prepare_into(self, decoded: Any, slot: Any) -> "PreparedInput":
        """Return the prepared input, in memory of ``slots`` or, for None, of its own."""
        del slot
        prepared: PreparedInput = self.prepare(decoded)
        return prepared

    @abstractmethod
    def bucket(self, prepared: Any) -> Hashable:
        """Return a key; prepared inputs of equal keys may share a batch."""

    @abstractmethod
    def stack(self, prepared: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """Return the arrays of the ``network`` graph for inputs of one bucket, padded where necessary."""

    def parts(self, prepared: Any) -> dict[str, NDArray[Any]]:
        """Return the parts of a prepared input that rows of its scores belong to; none where it has none.

        ``runtime/outputs/parts.py`` says what the arrays are.
        """
        del prepared
        return {}

    def raw_arrays(self, decoded: Any) -> dict[str, NDArray[Any]]:
        """Return the arrays of the ``model`` graph, which takes raw inputs, for a batch of one."""
        return self.stack([self.prepare(decoded)])

    def check_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise InputError for a graph's arrays that hold what ``decode`` refuses, such as NaN; by default, none do."""
        del arrays


def read_source(path: str | PathLike[str], subject: str) -> bytes:
    """Return the content of a file.

    Raises InputError, with ``subject`` as its name, where it cannot be read, is larger than ``MAX_FILE_BYTES``, or is
    no regular file: reading a pipe or a device may never end.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for its writer.
        with open(path, "rb", opener=_open_without_waiting) as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(status.st_mode):
                raise InputError(
                    f"{subject}: not a file: expected a regular file, got a pipe or device. Copy it first."
                )
            data = stream.read(MAX_FILE_BYTES + 1) if status.st_size <= MAX_FILE_BYTES else None
    except FileNotFoundError:
        raise InputError(f"{subject}: no such file. {_where_to_look(os.fspath(path))}") from None
    except IsADirectoryError:
        raise InputError(
            f"{subject}: is a folder: expected a file. Give the path of a file, or all files as 'truecopy predict' and "
            "read_inputs() find them."
        ) from None
    except OSError as error:
        # Base64 as a text is longer than a name may be.
        fix = "Give the path of a file" if error.errno != errno.ENAMETOOLONG else "Pass a path, or bytes"
        raise InputError(f"{subject}: cannot be read: {error.strerror}. {fix}.") from error
    except ValueError as error:  # no system has a null character in a path, nor half of one
        raise InputError(f"{subject}: not a path: {error}. Give the path of a file.") from None
    if data is None or len(data) > MAX_FILE_BYTES:
        raise InputError(
            f"{subject}: too large: expected a file of at most {MAX_FILE_BYTES} bytes, got {status.st_size}. Split it."
        )
    return data


def read_stream(source: Any, subject: str) -> Any:
    """Return the bytes of an open file, or of what reads like one; anything else as it is.

    Raises InputError for one that was opened as text, or has been read already.
    """
    if not callable(getattr(source, "read", None)):
        return source
    if isinstance(source, io.TextIOBase):
        raise InputError(f"{subject}: opened as text: expected bytes. Open the file with 'rb'.")
    data = source.read(MAX_FILE_BYTES + 1)
    if not isinstance(data, bytes):
        if inspect.iscoroutine(data):
            data.close()
        raise InputError(
            f"{subject}: read() of {type(source).__name__} gave {type(data).__name__}: expected bytes. Pass the bytes."
        )
    if not data and source.seekable() and source.tell():
        raise InputError(f"{subject}: already read: expected bytes, got the end of the file. Call its seek(0) first.")
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{subject}: too large: expected at most {MAX_FILE_BYTES} bytes, got more. Split it.")
    return data


def fix_of_type(source: object) -> str:
    """Return what to do with an input of a type that its kind does not take."""
    return "Convert it first; pass several inputs as a list." if isinstance(source, Iterable) else "Convert it first."


def _where_to_look(path: str | bytes) -> str:
    """Return what to do where a file is missing: not every text was meant as the path of one."""
    text = os.fsdecode(path)
    if "://" in text:
        return "URLs are not fetched: read it, and pass its bytes."
    if any(character in text for character in "*?["):
        return "Patterns are not expanded here: pass a list of paths, or use read_inputs()."
    return "Check the path."


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such pipes


def to_input_error(error: Exception, subject: str) -> InputError:
    """Return the InputError of whatever decoding, preparing or running one input raised.

    This is the border between an input and the work on it: libraries raise anything for damaged bytes. The traceback of
    an error that is not ours goes to the log at the level DEBUG, which ``--debug`` shows.
    """
    if isinstance(error, InputError):
        return error
    _logger.debug("%s", subject, exc_info=error)
    if isinstance(error, MemoryError):
        return InputError(f"{subject}: not enough memory to decode this input and run it. Use a smaller one.")
    return InputError(
        f"{subject}: damaged, or not an input of this model: {_reason(error)}. Write it again; --debug shows more."
    )


def fault_of(error: Exception, name: str) -> str:
    """Return the message about what running the input ``name`` raised, with its name and of bounded length."""
    return bounded(f"'{name}': {error}" if isinstance(error, InputError) else str(to_input_error(error, f"'{name}'")))


@contextmanager
def input_border(subject: str) -> Iterator[None]:
    """Raise whatever the block raises as an InputError with ``subject`` as its name, except other errors of ours."""
    try:
        yield
    except TruecopyError:
        raise
    except Exception as error:
        raise to_input_error(error, subject) from error


def _reason(error: Exception) -> str:
    """Return the type and the message of an error, on one line."""
    try:
        message = " ".join(str(error)[:MAX_MESSAGE].split()).rstrip(".")
    except Exception:  # an exception whose own message cannot be written
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def uncompared_length(lengths: Mapping[str, int], compared: Mapping[str, LengthRange]) -> str:
    """Return in words which length was not compared with the eager model, and what to do; empty where all were."""
    for name, length in lengths.items():
        known = compared.get(name)
        if known is not None and not known.lowest <= length <= known.highest:
            if name == BATCH:
                return (
                    f"'{name}' outside what was compared with the eager model: expected {known.lowest} to "
                    f"{known.highest}, got {length}. Pass fewer inputs at once."
                )
            return (
                f"'{name}' outside what was compared with the eager model: expected {known.lowest} to {known.highest}, "
                f"got {length}. Change the input, or export the model again with such inputs compared: --samples, or "
                f"for arrays and token sequences --lengths {min(known.lowest, length)}..{max(known.highest, length)}."
            )
    return ""


def check_compared(lengths: Mapping[str, int], compared: Mapping[str, LengthRange], subject: str) -> None:
    """Raise InputError, with ``subject`` as its name, where a length was not compared with the eager model."""
    problem = uncompared_length(lengths, compared)
    if problem:
        raise InputError(f"{subject}: {problem}")

"""Golden inputs and outputs: reader and writer of golden.npz."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ArtifactError

# A dozen small images and their prepared pixels take a few megabytes; an export writes no archive near this size.
_LIMIT_BYTES = 256 * 2**20

# Reading many small arrays takes far longer than their bytes; a case has a handful.
_MAX_ARRAYS = 10_000
_ZIP_ENTRY = b"PK\x01\x02"


class GoldenCase(msgspec.Struct, frozen=True, kw_only=True):
    """One encoded input, its prepared arrays and the eager model's outputs, as batches of one.

    ``source`` is the input as the decoders take it: the bytes of an image file, JSON, .npy or .npz. ``prepared`` are
    the arrays of the ``network`` graph, made by the user's own preprocessing. ``labels`` is the expected result, in the
    form of a result's ``to_arrays``, by the user's own labels and thresholds; empty for raw outputs.
    """

    source: bytes
    prepared: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    labels: Mapping[str, NDArray[Any]] = {}


class GoldenSet(msgspec.Struct, frozen=True, kw_only=True):
    """The golden cases of an artifact."""

    cases: tuple[GoldenCase, ...]


def golden_to_npz(golden: GoldenSet) -> bytes:
    """Return the golden set as a compressed npz archive; equal sets give equal bytes."""
    arrays: dict[str, NDArray[Any]] = {}
    for row, case in enumerate(golden.cases):
        arrays[f"{row}/source"] = np.frombuffer(case.source, dtype=np.uint8)
        arrays |= {f"{row}/prepared/{name}": _plain(array) for name, array in case.prepared.items()}
        arrays |= {f"{row}/outputs/{name}": array for name, array in case.outputs.items()}
        arrays |= {f"{row}/labels/{name}": _plain(array) for name, array in case.labels.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def golden_outputs_to_npz(outputs: Sequence[Mapping[str, NDArray[Any]]]) -> bytes:
    """Return a variant's own outputs for the golden inputs, in their order, as a compressed npz archive."""
    stream = io.BytesIO()
    arrays = {f"{row}/outputs/{name}": array for row, case in enumerate(outputs) for name, array in case.items()}
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def read_golden_outputs(path: Path, *, count: int) -> list[dict[str, NDArray[Any]]]:
    """Read the outputs of ``count`` golden inputs. Raises ArtifactError where the file does not hold them all."""
    arrays = _read_arrays(path)
    outputs = [_under(arrays, f"{row}/outputs/") for row in range(count)]
    if not all(outputs):
        raise ArtifactError(f"'{path}': not the outputs of {count} golden inputs. Run 'truecopy quantize' again.")
    return outputs


def read_golden(path: Path) -> GoldenSet:
    """Read the golden set in file ``path``. Raises ArtifactError when it is not one."""
    loaded = _read_arrays(path)
    count = sum(name.endswith("/source") and name.count("/") == 1 for name in loaded)
    try:
        cases = tuple(
            GoldenCase(
                source=loaded[f"{row}/source"].tobytes(),
                prepared={name: _strings(array) for name, array in _under(loaded, f"{row}/prepared/").items()},
                outputs=_under(loaded, f"{row}/outputs/"),
                labels={name: _strings(array) for name, array in _under(loaded, f"{row}/labels/").items()},
            )
            for row in range(count)
        )
    except (ArtifactError, MemoryError):
        raise
    except Exception as error:  # zip and npz break in many ways
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ArtifactError(f"'{path}': not a golden set: {reason}. Export the model again.") from error
    if not cases:
        raise ArtifactError(f"'{path}': not a golden set: it has no cases. Export the model again.")
    return GoldenSet(cases=cases)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        count = path.read_bytes().count(_ZIP_ENTRY)
        if count > _MAX_ARRAYS:
            raise ArtifactError(
                f"'{path}': not a golden set: expected at most {_MAX_ARRAYS} arrays, got {count}. Do not use this "
                "artifact; export the model again."
            )
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _LIMIT_BYTES:
            raise ArtifactError(
                f"'{path}': unpacks to too much: expected at most {_LIMIT_BYTES} bytes, got {size}. "
                "Do not use this artifact; export the model again."
            )
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"'{path}': not a golden set: {error}. Export the model again.") from error


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return strings in numpy's fixed-width form, which needs no pickle."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def _strings(array: NDArray[Any]) -> NDArray[Any]:
    """Return strings as the graphs take them."""
    return array.astype(object) if array.dtype.kind == "U" else array

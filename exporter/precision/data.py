"""Calibration data: the user's own inputs, split into a part to calibrate with and one to measure with."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.errors import ExportError
from runtime.errors import InputError, listed
from runtime.inputs.decoder import read_source
from runtime.inputs.folders import LeftOut
from runtime.inputs.registry import source_format_of
from runtime.inputs.source import NamedInput
from runtime.jobs.sources import count_inputs, read_sources
from runtime.jobs.urls import fetch_each
from runtime.manifest import CalibrationData, Input
from runtime.model import Model

Arrays = dict[str, NDArray[Any]]

# Ranges of activations hardly change beyond a hundred inputs; with fewer than these, one odd input decides them.
_FEWEST_CALIBRATED, _MOST_CALIBRATED = 32, 128

# One in so many inputs is calibrated with, within the bounds above.
_CALIBRATED_SHARE = 5

# A sample of this size bounds a share within two hundredths; more would only take longer.
_MOST_INPUTS = 4096

# Of an agreement of 1, no number of inputs shows that one flip is too many: as many as for 0.99 are measured.
_FEWEST_MEASURED_OF_ALL = 100


@dataclass(frozen=True, kw_only=True)
class PreparedSource:
    """One input of the user's: its name, what it was read from, its arrays for the network graph, and a SHA-256.

    That is of the file, or of the arrays where the input is no file.
    """

    name: str
    source: Any
    sha256: str
    arrays: Arrays


@dataclass(frozen=True, kw_only=True)
class SplitData:
    """The inputs to calibrate with, and the others to measure with; ``failures`` are the reasons of unusable ones."""

    calibrated: tuple[PreparedSource, ...]
    measured: tuple[PreparedSource, ...]
    failures: dict[str, str]

    def describe(self) -> CalibrationData:
        """Return what the manifest says of the data."""
        return CalibrationData(
            calibrated=len(self.calibrated),
            calibrated_sha256=_digest(self.calibrated),
            measured=len(self.measured),
            measured_sha256=_digest(self.measured),
        )


def needed_inputs(min_agreement: float) -> tuple[int, int]:
    """Return how many inputs are needed to calibrate and to measure, at least."""
    room = 1 - min_agreement
    return _FEWEST_CALIBRATED, math.ceil(round(1 / room, 6)) if room > 0 else _FEWEST_MEASURED_OF_ALL


def check_data(data: Path, inputs: Sequence[Input], min_agreement: float, *, column: str | None = None) -> None:
    """Raise ExportError or InputError for data that is missing, of another kind or too little, before it is decoded.

    ``column`` is the one of a table that holds the inputs.
    """
    if not data.exists():
        raise ExportError(f"'{data}': no such file or folder. Check the path in --calibration.")
    count = count_inputs([str(data)], source_format_of(inputs), column=column, left_out=LeftOut())
    if count is not None:
        _check_count(data, count, min_agreement, failures={})


def read_data(model: Model, data: Path, min_agreement: float, *, column: str | None = None) -> SplitData:
    """Return the prepared inputs of a folder, table or list, split by their content; equal ones count once.

    ``column`` is the one of a table that holds the inputs. The split depends on nothing but the inputs themselves: not
    on their names or their order. Raises ExportError where there are too few.
    """
    check_data(data, model.manifest.inputs, min_agreement, column=column)
    failures: dict[str, str] = {}
    inputs: dict[str, PreparedSource] = {}
    source_format = source_format_of(model.manifest.inputs)
    named = list(read_sources([str(data)], source_format, column=column, left_out=LeftOut()))
    for name, source in fetch_each(_evenly(named)):
        try:
            if isinstance(source, InputError):
                raise source
            prepared = prepare_source(model, name, source)
            # The same pixels in two file formats are one input: it must not be in both parts.
            content = digest_arrays(prepared.arrays)
            if content not in inputs or prepared.sha256 < inputs[content].sha256:
                inputs[content] = prepared
        except InputError as error:
            failures[name] = str(error)
    _check_count(data, len(inputs), min_agreement, failures)
    ordered = sorted(inputs.values(), key=lambda prepared: prepared.sha256)
    count = min(max(len(ordered) // _CALIBRATED_SHARE, _FEWEST_CALIBRATED), _MOST_CALIBRATED)
    return SplitData(calibrated=tuple(ordered[:count]), measured=tuple(ordered[count:]), failures=failures)


def prepare_source(model: Model, name: str, source: Any) -> PreparedSource:
    """Return one input as the runtime prepares it. Raises InputError where it cannot be used."""
    arrays = model.stack([model.prepare(source, subject=f"'{name}'")])
    content = read_source(source, f"'{name}'") if isinstance(source, Path) else source
    sha256 = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else digest_arrays(arrays)
    return PreparedSource(name=name, source=source, sha256=sha256, arrays=arrays)


def digest_arrays(arrays: Arrays) -> str:
    """Return the SHA-256 of arrays by name: their types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _evenly(named: Sequence[NamedInput]) -> Iterator[NamedInput]:
    """Yield at most ``_MOST_INPUTS`` of the inputs, evenly spread over them: folders are often one per class."""
    if len(named) <= _MOST_INPUTS:
        yield from named
        return
    yield from (named[index] for index in np.linspace(0, len(named) - 1, _MOST_INPUTS).round().astype(int))


def _check_count(data: Path, count: int, min_agreement: float, failures: dict[str, str]) -> None:
    calibrated, measured = needed_inputs(min_agreement)
    if count >= calibrated + measured:
        return
    unusable = f" {len(failures)} could not be used: {listed(list(failures.values()), 1)}" if failures else ""
    raise ExportError(
        f"'{data}': too little to calibrate and to measure with: expected at least {calibrated + measured} different "
        f"inputs, got {count}. {calibrated} give the ranges of activations, and {measured} others measure: with fewer, "
        f"a single flipped label would be more than the {1 - min_agreement:.3g} that an agreement of {min_agreement:g} "
        f"allows. Add inputs, or lower --min-agreement.{unusable}"
    )


def _digest(inputs: Sequence[PreparedSource]) -> str:
    return hashlib.sha256("".join(source.sha256 for source in inputs).encode()).hexdigest()

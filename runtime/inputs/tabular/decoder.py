"""Decoder of table rows: dictionaries and JSON objects."""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.artifact.open import Artifact
from runtime.errors import InputError, listed
from runtime.inputs.decoder import DecodedInput, Decoder, read_source
from runtime.inputs.encoding import check_unicode, decode_text
from runtime.inputs.json_size import check_json
from runtime.manifest import Column, TabularInput

RowSource: TypeAlias = Mapping[str, Any] | bytes | str | PathLike[str]

_BATCH = 1024

# The texts of an empty cell in a column of numbers: those that pandas reads as one.
EMPTY = frozenset(
    {
        *("", "nan", "NaN", "-nan", "-NaN", "NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "#N/A N/A"),
        *("null", "NULL", "None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    }
)

# The least and the largest number that a column may have.
_RANGES: dict[str, tuple[float | int, float | int]] = {
    "int64": (int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)),
    "float32": (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)),
    "float64": (float(np.finfo(np.float64).min), float(np.finfo(np.float64).max)),
}


@dataclass(frozen=True, kw_only=True)
class DecodedRow(DecodedInput):
    """The values of one row, in the order of the columns; NaN or an empty string stand for an empty cell."""

    values: tuple[float | int | str, ...]


class TabularDecoder(Decoder):
    """Table rows: all columns and no others; numbers as numbers or as text, strings as text.

    A prepared row has its values in the order of the columns; any rows may share a batch.
    """

    batch_size = _BATCH

    def __init__(self, spec: TabularInput, _artifact: Artifact | None = None) -> None:
        self._spec = spec
        self._names = {column.name for column in spec.columns}
        self._categories = {column.name: frozenset(column.categories) for column in spec.columns}
        self._dtypes = [(column.name, None if column.dtype == "string" else column.dtype) for column in spec.columns]

    def decode(self, source: RowSource, *, subject: str) -> DecodedRow:
        """Return the row's values. Raises InputError with the column's name where one is missing, extra or wrong.

        ``source`` is a mapping from column names to values, a JSON object as bytes, or the path of a file with one.
        """
        row = source if isinstance(source, Mapping) else _read_object(source, subject)
        if row.keys() != self._names:
            raise InputError(self._wrong_columns(row, subject))
        return DecodedRow(
            values=tuple([self._value(column, row[column.name], subject) for column in self._spec.columns])
        )

    def prepare(self, decoded: DecodedRow) -> tuple[float | int | str, ...]:
        """Return the values."""
        return decoded.values

    def bucket(self, _prepared: tuple[float | int | str, ...]) -> Hashable:
        """Return one key for all."""
        return None

    def stack(self, prepared: Sequence[tuple[float | int | str, ...]]) -> dict[str, NDArray[Any]]:
        """Return one array per column, [batch, 1]."""
        return {
            name: np.array(values, dtype=dtype or object).reshape(-1, 1)
            for (name, dtype), values in zip(self._dtypes, zip(*prepared, strict=True), strict=True)
        }

    def _value(self, column: Column, value: Any, subject: str) -> float | int | str:
        if column.dtype == "string":
            return self._string(column, value, subject)
        subject = f"{subject}: column '{column.name}'"
        if _is_missing(value) or (isinstance(value, str) and value.strip() in EMPTY):
            number: float | int = math.nan
        else:
            number = _to_number(column.dtype, value, subject)
        if math.isnan(number):
            if not column.nullable:
                raise InputError(
                    f"{subject}: empty or NaN: expected a number. This model was trained without empty cells there; "
                    "fill it in."
                )
            return number
        self._check_known(column, number, subject)
        return number

    def _string(self, column: Column, value: Any, subject: str) -> str:
        subject = f"{subject}: column '{column.name}'"
        if _is_missing(value) or (isinstance(value, float) and math.isnan(value)) or value == "":
            if not column.nullable:
                raise InputError(
                    f"{subject}: empty: expected a string. This model was trained without empty cells there: fill "
                    "it in."
                )
            return ""
        if not isinstance(value, str):
            raise InputError(
                f"{subject}: not a string: expected text, got {_shown(value)} ({type(value).__name__}). Convert it as "
                "in training."
            )
        check_unicode(value, subject)
        self._check_known(column, value, subject)
        return value

    def _check_known(self, column: Column, value: str | float, subject: str) -> None:
        known = self._categories[column.name]
        if known and value not in known:
            raise InputError(
                f"{subject}: unknown category: expected one of {listed([repr(name) for name in column.categories])}, "
                f"got {value!r:.80}. The training transform also refuses it."
            )

    def _wrong_columns(self, row: Mapping[str, Any], subject: str) -> str:
        missing = [column.name for column in self._spec.columns if column.name not in row]
        extra = [str(name) for name in row if name not in self._names]
        parts = [
            f"{word} {listed([repr(name) for name in names])}"
            for word, names in (("missing", missing), ("unexpected", extra))
            if names
        ]
        if "" in extra:
            parts.append("'' has no name, as the index that pandas writes without to_csv(index=False)")
        return (
            f"{subject}: wrong columns: expected the {len(self._names)} of the model, got {'; '.join(parts)}. "
            "Rename, add or remove columns."
        )


def _is_missing(value: object) -> bool:
    """Return whether a cell is None, or what pandas has for one; pandas itself is not needed for this."""
    return value is None or type(value).__name__ in {"NAType", "NaTType"}


def _to_number(dtype: str, value: Any, subject: str) -> float | int:
    """Return a cell as a number that ``dtype`` has, or NaN. Raises InputError for any other cell."""
    try:
        number = _parse(dtype, value)
        low, high = _RANGES[dtype]
        too_large = not low <= number <= high and math.isfinite(number)
    except (TypeError, ValueError):
        raise InputError(
            f"{subject}: not a number: expected a {dtype}, got {_shown(value)}. Correct the cell."
        ) from None
    except OverflowError:
        too_large = True
    if too_large:
        raise InputError(f"{subject}: too large: expected {dtype}, got {_shown(value)}. Correct the cell.")
    if math.isinf(number):
        raise InputError(f"{subject}: infinite: expected a number, got {_shown(value)}. Correct the cell.")
    if dtype != "int64" or math.isnan(number):
        return number
    if number != int(number):
        raise InputError(f"{subject}: not a whole number: expected an int64, got {_shown(value)}. Correct the cell.")
    return int(number)


def _parse(dtype: str, value: Any) -> float | int:
    """Return a number, or text with one such as ' 1.5 '; a bool is 0 or 1, as pandas and numpy have it."""
    if isinstance(value, str) and "_" in value:
        raise ValueError(value)  # a number in Python's source alone
    if dtype == "int64" and isinstance(value, str | int | np.integer):
        with suppress(ValueError):  # text such as '1.0'
            return int(value)  # exact: float() changes whole numbers beyond 2**53
    return float(value)


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):  # more digits than Python writes
        return f"{type(value).__name__} too long to show"


def _read_object(source: Any, subject: str) -> Mapping[str, Any]:
    if not isinstance(source, bytes | str | PathLike):
        raise InputError(
            f"{subject}: not a row: expected a dictionary of columns, got {type(source).__name__}. Convert it first, "
            "as to_dict('records') does with a DataFrame."
        )
    try:
        data = source if isinstance(source, bytes) else read_source(source, subject)
        text = decode_text(data, subject)
        check_json(text, subject)
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{subject}: not a row: expected a JSON object, got something else ({error}). Convert it first."
        ) from error
    if not isinstance(row, Mapping):
        raise InputError(
            f"{subject}: not a row: expected a dictionary of columns, got {type(row).__name__}. Convert it first."
        )
    return row

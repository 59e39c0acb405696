"""Decoder of table rows: dictionaries and JSON objects."""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.artifact.open import Artifact
from runtime.errors import InputError
from runtime.inputs.decoder import DecodedInput
from runtime.manifest import Column, TabularInput

RowSource: TypeAlias = Mapping[str, Any] | bytes | str | PathLike[str]

_BATCH = 1024

# The texts of an empty cell, as pandas reads them.
EMPTY = frozenset({"", "nan", "NaN", "NA", "N/A", "null", "NULL", "None"})

_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class DecodedRow(DecodedInput):
    """The values of one row, in the order of the columns; NaN or an empty string stand for an empty cell."""

    values: tuple[float | int | str, ...]


class TabularDecoder:
    """Table rows: all columns and no others; numbers as numbers or as text, strings as text.

    A prepared row has its values in the order of the columns; any rows may share a batch.
    """

    batch_size = _BATCH

    def __init__(self, spec: TabularInput, _artifact: Artifact | None = None) -> None:
        self._spec = spec
        self._names = {column.name for column in spec.columns}
        self._categories = {column.name: frozenset(column.categories) for column in spec.columns}
        self._dtypes = [(column.name, None if column.dtype == "string" else column.dtype) for column in spec.columns]
        self.warnings: dict[str, str] = {}

    def is_list(self, inputs: object) -> bool:
        """Return whether it is a list or tuple."""
        return isinstance(inputs, list | tuple)

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

    def whole(self, decoded: DecodedRow) -> dict[str, NDArray[Any]]:
        """Return one array per column, [1, 1]."""
        return self.stack([decoded.values])

    def _value(self, column: Column, value: Any, subject: str) -> float | int | str:
        if column.dtype == "string":
            return self._string(column, value, subject)
        if value is None or (isinstance(value, str) and value.strip() in EMPTY):
            number = math.nan
        else:
            try:
                # A bool is 0 or 1, as pandas and numpy have it; float() also takes text such as ' 1.5 '.
                number = float(value)
            except (TypeError, ValueError):
                raise InputError(
                    f"{subject}: column '{column.name}': not a number: expected a {column.dtype}, got {value!r:.80}. "
                    "Correct the cell."
                ) from None
        if math.isnan(number):
            if not column.nullable:
                raise InputError(
                    f"{subject}: column '{column.name}': empty or NaN: expected a number. This model was trained "
                    "without empty cells there; fill it in."
                )
        elif math.isinf(number):
            raise InputError(
                f"{subject}: column '{column.name}': infinite: expected a number, got {value!r:.80}. Correct the cell."
            )
        elif column.dtype == "int64":
            if number != int(number):
                raise InputError(
                    f"{subject}: column '{column.name}': not a whole number: expected an int64, got {value!r:.80}. "
                    "Correct the cell."
                )
            number = int(number)
        if not math.isnan(number):
            self._check_known(column, number, subject)
        return number

    def _string(self, column: Column, value: Any, subject: str) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)) or value == "":
            if not column.nullable:
                raise InputError(
                    f"{subject}: column '{column.name}': empty: expected a string. This model was trained without "
                    "empty cells there; fill it in."
                )
            return ""
        if not isinstance(value, str):
            raise InputError(
                f"{subject}: column '{column.name}': not a string: expected text, got {value!r:.80} "
                f"({type(value).__name__}). Convert it as in training."
            )
        self._check_known(column, value, subject)
        return value

    def _check_known(self, column: Column, value: str | float, subject: str) -> None:
        known = self._categories[column.name]
        if known and value not in known:
            shown = ", ".join(repr(name) for name in column.categories[:_LISTED])
            more = f", and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
            raise InputError(
                f"{subject}: column '{column.name}': unknown category: expected one of {shown}{more}, got "
                f"{value!r:.80}. The training transform also refuses it."
            )

    def _wrong_columns(self, row: Mapping[str, Any], subject: str) -> str:
        missing = [column.name for column in self._spec.columns if column.name not in row]
        extra = [str(name) for name in row if name not in self._names]
        parts = [
            f"{word} {', '.join(map(repr, names[:_LISTED]))}"
            + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
            for word, names in (("missing", missing), ("unexpected", extra))
            if names
        ]
        if "" in extra:
            parts.append("'' has no name, as the index that pandas writes without to_csv(index=False)")
        return (
            f"{subject}: wrong columns: expected the {len(self._names)} of the model, got {'; '.join(parts)}. "
            "Rename, add or remove columns."
        )


def _read_object(source: Any, subject: str) -> Mapping[str, Any]:
    if not isinstance(source, bytes | str | PathLike):
        raise InputError(
            f"{subject}: not a row: expected a dictionary of columns, got {type(source).__name__}. Convert it first, "
            "as to_dict('records') does with a DataFrame."
        )
    try:
        row = json.loads(source if isinstance(source, bytes) else Path(source).read_bytes())
    except FileNotFoundError:
        raise InputError(f"{subject}: no such file. Check the path.") from None
    except OSError as error:
        raise InputError(f"{subject}: cannot be read: {error.strerror}. Give the path of a JSON file.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{subject}: not a row: expected a JSON object, got something else ({error}). Convert it first."
        ) from error
    if not isinstance(row, Mapping):
        raise InputError(
            f"{subject}: not a row: expected a dictionary of columns, got {type(row).__name__}. Convert it first."
        )
    return row

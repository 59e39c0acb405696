"""Rows of a table: the fitted transform of their columns, in the graph."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from exporter.endings import Ending
from exporter.errors import ParityError, PreprocessingError
from exporter.fronts.protocol import BATCH_SIZES, Case, GraphPart, Prepared, example_of
from exporter.parity.paths import Arrays, ServedPath, cut, onnx_path, runtime_path, split_batch
from exporter.preprocessing.tables import Profile, TableReading, profile_columns, table_nodes
from exporter.preprocessing.tables.to_onnx_nodes import ML_OPSET, column_info
from runtime.decode.tables import read_rows
from runtime.errors import InputError
from runtime.manifest import Column, Input, TabularInput
from runtime.model import Model

FEATURES = "features"
ROW = "row"

_RANDOM_ROWS = 16
_MAX_SAMPLES = 64
_UNSEEN = "\N{BLACK STAR} never seen in training"


class RowFront:
    """One input a column; the transform is in the graph, and the host only looks at the cells."""

    files: Mapping[str, bytes] = {}
    dimensions: Mapping[str, Mapping[int, str]] = {FEATURES: {0: "batch"}}
    noun = "rows"
    no_torchscript = "the transform of the columns is in the ONNX graph alone"
    prepared_limit = 0.0
    device_slack = 0.0

    def __init__(self, reading: TableReading, *, samples: Path | None) -> None:
        self._reading = reading
        self._profiles = profile_columns(reading)
        self._samples = samples
        middle = {profile.name: _middle(profile) for profile in self._profiles}
        self._columns = tuple(self._column(profile, middle) for profile in self._profiles)
        self._nodes = table_nodes(reading, self._columns, features=FEATURES)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The row."""
        return (TabularInput(name=ROW, columns=self._columns),)

    def describe(self) -> str:
        """Return the transform and the columns."""
        columns = ", ".join(
            f"{column.name} ({'text' if column.dtype == 'string' else column.dtype}"
            f"{', may be empty' if column.nullable else ''})"
            for column in self._columns[:10]
        )
        more = f", and {len(self._columns) - 10} more" if len(self._columns) > 10 else ""
        return f"{type(self._reading.transformer).__name__} of {len(self._columns)} columns: {columns}{more}"

    def cases(self) -> tuple[Case, ...]:
        """Return the user's rows, or random ones as spread as the training's; then empty cells and unseen words."""
        rows = self._random_rows() if self._samples is None else self._user_rows(self._samples)
        rows += self._odd_rows(rows[0][1])
        return tuple(Case(name=name, data=json.dumps(row, sort_keys=True).encode()) for name, row in rows)

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return some rows: any may share a batch."""
        return tuple(cases[row % len(cases)] for row in range(max(BATCH_SIZES)))

    def prepare(self, case: Case) -> Prepared:
        """Return the columns as the graph takes them, and the features of the user's own transform."""
        row = json.loads(case.data)
        arrays = {}
        for column in self._columns:
            value = row[column.name]
            if column.dtype == "string":
                arrays[column.name] = np.array([["" if value is None else value]], dtype=object)
            else:
                arrays[column.name] = np.array([[math.nan if value is None else value]], dtype=column.dtype)
        features = self._reading.transform([row])
        return Prepared(arrays=arrays, tensors={FEATURES: torch.from_numpy(features)})

    def example(self, prepared: Sequence[Prepared]) -> Mapping[str, torch.Tensor]:
        """Return two rows."""
        return example_of(prepared)

    def trials(self, _prepared: Sequence[Prepared]) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return none: the batch alone is dynamic, and parity compares that."""
        return ()

    def whole_part(self) -> GraphPart:
        """Return the transform, from one input a column, [batch, 1]."""
        return GraphPart(
            inputs=[column_info(column) for column in self._columns],
            nodes=[self._nodes],
            opsets={"ai.onnx.ml": ML_OPSET},
        )

    def prepared_part(self) -> None:
        """Return None: the host prepares nothing that the graph could."""

    def to_torchscript(
        self, _network: nn.Module, _example: Mapping[str, torch.Tensor], _ending: Ending
    ) -> bytes | None:
        """Return None: TorchScript has no strings to look up."""
        return None

    @contextmanager
    def open_paths(
        self, model: Model, folder: Path, _ending: Ending, *, torchscript: str | None
    ) -> Iterator[Sequence[ServedPath]]:
        """Give the paths; the transform and the network are cuts of the artifact's own graph."""
        del torchscript
        graph = folder / model.manifest.variants[0].model
        outputs = [output.name for output in model.manifest.outputs]
        with TemporaryDirectory(prefix="truecopy-") as place:
            normalize = cut(graph, [column.name for column in self._columns], [FEATURES], Path(place))
            width = self._reading.transform([{profile.name: _middle(profile) for profile in self._profiles}]).shape[1]
            network = cut(graph, [FEATURES], outputs, Path(place), shapes={FEATURES: ("batch", width)})

            def score(prepared: Prepared) -> Arrays:
                found = network({FEATURES: prepared.tensors[FEATURES].numpy()})
                return split_batch(found, model.manifest, 1)[0]

            yield [
                onnx_path(graph.name, model, normalize=normalize, score=score),
                runtime_path(model),
            ]

    def _column(self, profile: Profile, middle: Mapping[str, Any]) -> Column:
        """Return a column as the manifest has it, having asked the transform what it takes."""
        nullable = self._takes({**middle, profile.name: None})
        closed = profile.dtype == "string" and profile.strict and not self._takes({**middle, profile.name: _UNSEEN})
        # Whole numbers cannot be empty: where the transform takes empty cells, they are floats, as in pandas.
        dtype = "float64" if nullable and profile.dtype == "int64" else profile.dtype
        return Column(
            name=profile.name,
            dtype=dtype,  # type: ignore[arg-type]  # one of the three
            nullable=nullable,
            categories=tuple(map(str, profile.categories)) if closed else (),
        )

    def _takes(self, row: Mapping[str, Any]) -> bool:
        try:
            return bool(np.isfinite(self._reading.transform([row])).all())
        except Exception:  # scikit-learn refuses in many ways
            return False

    def _random_rows(self) -> list[tuple[str, dict[str, Any]]]:
        generator = np.random.default_rng(0)
        rows = []
        for position in range(_RANDOM_ROWS):
            width = (1.0, 0.1, 3.0)[position % 3]
            row = {}
            for profile, column in zip(self._profiles, self._columns, strict=True):
                if profile.categories:
                    row[column.name] = profile.categories[int(generator.integers(len(profile.categories)))]
                elif column.dtype == "string":
                    row[column.name] = f"text {position}"
                else:
                    row[column.name] = profile.center + width * profile.spread * float(generator.standard_normal())
            rows.append((f"random row {position}", row))
        return rows

    def _user_rows(self, samples: Path) -> list[tuple[str, dict[str, Any]]]:
        if not samples.is_file():
            raise ParityError(f"'{samples}': no such file: expected a table. Check the path given to --samples.")
        names = [column.name for column in self._columns]
        rows: list[tuple[str, dict[str, Any]]] = []
        for name, row in read_rows(samples):
            if isinstance(row, InputError):
                raise ParityError(f"'{samples}': cannot be used as a sample: {row}")
            missing = [column for column in names if column not in row]
            if missing:
                raise ParityError(
                    f"'{samples}': wrong columns: expected {', '.join(names)}, got no '{missing[0]}'. Rename them."
                )
            rows.append((name, {column.name: cell_of(column, row[column.name], name) for column in self._columns}))
            if len(rows) == _MAX_SAMPLES:
                break
        if not rows:
            raise ParityError(f"'{samples}': no rows: expected at least one. Check the path given to --samples.")
        return rows

    def _odd_rows(self, row: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        odd = [(f"empty {column.name}", {**row, column.name: None}) for column in self._columns if column.nullable]
        empty = {column.name: None for column in self._columns if column.nullable}
        if len(empty) > 1:
            odd.append(("all empty", {**row, **empty}))
        odd += [
            (f"unseen {column.name}", {**row, column.name: _UNSEEN})
            for column in self._columns
            if column.dtype == "string" and not column.categories
        ]
        return [(name, changed) for name, changed in odd if self._takes(changed)]


def _middle(profile: Profile) -> Any:
    if profile.categories:
        return profile.categories[0]
    return "" if profile.dtype == "string" else profile.center


def cell_of(column: Column, value: Any, where: str) -> Any:
    """Return a cell of a file, where everything may be text, as a number where the column has numbers."""
    if value is None or value == "":
        return None
    if column.dtype == "string":
        return str(value)
    try:
        number = float(value)
    except ValueError:
        raise PreprocessingError(
            f"'{where}': column '{column.name}': not a number: expected a {column.dtype}, got {value!r:.80}. Correct "
            "the sample."
        ) from None
    if math.isnan(number):
        return None
    return int(number) if column.dtype == "int64" else number

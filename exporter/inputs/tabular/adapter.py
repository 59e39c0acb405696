"""Adapter of table rows: the fitted transform of their columns, in the graph."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exporter.conversion.network_io import Arrays
from exporter.errors import ParityError, PreprocessingError
from exporter.inputs.adapter import AdapterDefaults, GraphPart, TorchScriptPart, example_of
from exporter.inputs.tabular import Profile, TabularTransform, profile_columns, proven_nodes
from exporter.inputs.tabular.categories import check_categories
from exporter.inputs.tabular.estimator import ColumnStatistics
from exporter.inputs.tabular.to_onnx import ML_OPSET, column_info
from exporter.inputs.tabular.to_torchscript import ColumnsModule, unknown_operator
from exporter.parity.cases import BATCH_SIZES, GENERATED, SAMPLES, Case, PreparedInput, ServedStage, StageBorders
from exporter.parity.paths import Subgraph, decode_stage
from runtime.artifact.open import Artifact
from runtime.errors import InputError, listed
from runtime.evidence import Stage, WholeCheck
from runtime.inputs.tabular.tables import read_rows
from runtime.manifest import Column, Input, TabularInput
from runtime.model import Model

FEATURES = "features"
ROW = "row"
RANDOM = "random rows"

_RANDOM_ROWS = 16
_MAX_SAMPLES = 64
_UNSEEN = "\N{BLACK STAR} never seen in training"

# What no transform tells of the table that it was fitted on.
_EMPTY_TEXTS = (
    "that the training loader read texts such as 'NA' in columns of text as texts, and not as empty cells, as pandas "
    "does: not compared with its code"
)

# The Python type of a column's categories in the manifest.
_CELLS: Mapping[str, Any] = {"string": str, "int64": int, "float64": float}


class TabularAdapter(AdapterDefaults):
    """Rows of a table, one graph input per column; the transform is in the graph, and the host checks the cells."""

    files: Mapping[str, bytes] = {}
    dimensions: Mapping[str, Mapping[int, str]] = {FEATURES: {0: "batch"}}
    noun = "rows"
    prepared_limit = 0.0
    decoder_tolerance = 0.0

    def __init__(self, transform: TabularTransform, *, samples: Path | None) -> None:
        self._transform = transform
        self._profiles = profile_columns(transform)
        self._samples = samples
        self.skipped_samples: tuple[str, ...] = ()
        if isinstance(transform.transformer, ColumnStatistics):  # anything else is the user's own object
            self.assumptions = (
                f"the statistics in '{transform.origin}': stated by options, not compared with training code",
            )
        self._middle = self._find_middle()
        self._columns = tuple(self._column(profile) for profile in self._profiles)
        if any(column.dtype == "string" for column in self._columns):
            self.assumptions = (*self.assumptions, _EMPTY_TEXTS)
        self._cases = self._make_cases()
        rows = [json.loads(case.data) for case in self._cases]
        arrays = [to_arrays(row, self._columns) for row in rows]
        self._nodes = proven_nodes(transform, self._columns, rows, arrays, features=FEATURES)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The row."""
        return (TabularInput(name=ROW, columns=self._columns),)

    @property
    def borders(self) -> StageBorders:
        """The columns, and the features that the network takes."""
        width = self._transform.transform([self._middle]).shape[1]
        return StageBorders(
            prepared=tuple(column.name for column in self._columns), network={FEATURES: ("batch", width)}
        )

    def describe(self) -> str:
        """Return the transform and the columns."""
        columns = [
            f"{column.name} ({'text' if column.dtype == 'string' else column.dtype}"
            f"{', may be empty' if column.nullable else ''})"
            for column in self._columns
        ]
        return f"{type(self._transform.transformer).__name__} of {len(columns)} columns: {listed(columns)}"

    def cases(self) -> tuple[Case, ...]:
        """Return the user's rows, or random ones as spread as the training's; then empty cells and unseen values."""
        return self._cases

    def decoded_batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return some rows: any may share a batch."""
        return tuple(cases[row % len(cases)] for row in range(max(BATCH_SIZES)))

    def decode(self, case: Case) -> Arrays:
        """Return the columns as the graph takes them."""
        return to_arrays(json.loads(case.data), self._columns)

    def prepare(self, case: Case) -> PreparedInput:
        """Return the columns as the graph takes them, and the features of the user's own transform."""
        features = self._transform.transform([json.loads(case.data)])
        arrays = self.decode(case)
        return PreparedInput(decoded=arrays, arrays=arrays, tensors={FEATURES: torch.from_numpy(features)})

    def example(self, prepared: Sequence[PreparedInput]) -> Mapping[str, torch.Tensor]:
        """Return two rows."""
        return example_of(prepared)

    def validation_inputs(self, _prepared: Sequence[PreparedInput]) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return none: the batch alone is dynamic, and parity compares that."""
        return ()

    def host_stages(self, model: Model) -> Mapping[Stage, ServedStage]:
        """Return the runtime's decoder."""
        return {"decode": decode_stage(model)}

    def compare_whole(self, artifact: Artifact) -> Sequence[WholeCheck]:
        """Return the check of every category of every column, where there are some."""
        if not any(profile.categories for profile in self._profiles):
            return ()
        columns = [column.name for column in self._columns]
        subgraph = Subgraph(
            graph=artifact.manifest.variants[0].model,
            takes="prepared",
            sources=dict.fromkeys(columns, ()),
            targets=[FEATURES],
        )
        return (
            check_categories(
                artifact,
                self._transform,
                self._profiles,
                self._middle,
                subgraph,
                lambda row: to_arrays(row, self._columns),
            ),
        )

    def raw_graph_part(self) -> GraphPart:
        """Return the transform, from one input per column, [batch, 1]."""
        return GraphPart(
            inputs=[column_info(column) for column in self._columns],
            nodes=[self._nodes],
            opsets={"ai.onnx.ml": ML_OPSET},
        )

    def network_graph_part(self) -> None:
        """Return None: the host prepares nothing that the graph could."""

    def torchscript_part(self) -> TorchScriptPart:
        """Return the transform, or why there is no archive: TorchScript has no strings to look up."""
        texts = [column.name for column in self._columns if column.dtype == "string"]
        if texts:
            return TorchScriptPart(obstacle=f"TorchScript has no tensors of text, as column '{texts[0]}' is")
        unknown = unknown_operator(self._nodes)
        if unknown:
            return TorchScriptPart(obstacle=f"torch has no form of the transform's ONNX operator {unknown}")
        names = [column.name for column in self._columns]
        return TorchScriptPart(before=lambda: ColumnsModule(self._nodes, names, features=FEATURES))

    def _make_cases(self) -> tuple[Case, ...]:
        rows = self._random_rows() if self._samples is None else self._user_rows(self._samples)
        group = RANDOM if self._samples is None else SAMPLES
        groups = [(group, rows), (GENERATED, self._odd_rows(rows[0][1]))]
        return tuple(
            Case(name=name, data=json.dumps(row, sort_keys=True).encode(), group=group)
            for group, named_rows in groups
            for name, row in named_rows
        )

    def _find_middle(self) -> Mapping[str, Any]:
        """Return a row that the transform takes: the middle of each column, or positive numbers for roots and logs."""
        for least in (None, 0.0, 1.0):
            row = {profile.name: _middle(profile, least) for profile in self._profiles}
            if self._takes(row):
                return row
        # Some columns may want what others do not: each is tried alone, beside the others as they are.
        return {profile.name: _middle(profile, 1.0) for profile in self._profiles}

    def _column(self, profile: Profile) -> Column:
        """Return a column as the manifest has it; running the transform shows what it takes."""
        nullable = self._takes({**self._middle, profile.name: None})
        strict = bool(profile.categories) and profile.strict
        closed = strict and not self._takes({**self._middle, profile.name: _unseen(profile)})
        # Whole numbers cannot be empty: where the transform takes empty cells, they are floats, as in pandas.
        dtype = "float64" if nullable and profile.dtype == "int64" else profile.dtype
        return Column(
            name=profile.name,
            dtype=dtype,  # type: ignore[arg-type]  # one of the three
            nullable=nullable,
            categories=tuple(map(_CELLS[dtype], profile.categories)) if closed else (),
        )

    def _takes(self, row: Mapping[str, Any]) -> bool:
        try:
            return bool(np.isfinite(self._transform.transform([row])).all())
        except Exception:  # scikit-learn refuses in many ways
            return False

    def _random_rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Return rows that the transform takes: where it takes positive numbers alone, those."""
        generator = np.random.default_rng(0)
        rows = []
        for position in range(_RANDOM_ROWS):
            row = self._random_row(generator, position)
            positive = {name: abs(value) if isinstance(value, float) else value for name, value in row.items()}
            taken = next((candidate for candidate in (row, positive) if self._takes(candidate)), None)
            if taken is not None:
                rows.append((f"random row {position}", taken))
        if not rows:
            raise ParityError(
                f"'{self._transform.origin}': takes none of the generated rows: expected numbers like those that it "
                "was fitted on. Give real rows with --samples."
            )
        return rows

    def _random_row(self, generator: np.random.Generator, position: int) -> dict[str, Any]:
        width = (1.0, 0.1, 3.0)[position % 3]
        row: dict[str, Any] = {}
        for profile, column in zip(self._profiles, self._columns, strict=True):
            if profile.categories:
                row[column.name] = profile.categories[int(generator.integers(len(profile.categories)))]
            elif column.dtype == "string":
                row[column.name] = f"text {position}"
            else:
                row[column.name] = profile.center + width * profile.spread * float(generator.standard_normal())
        return row

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
            cells = {column.name: cell_of(column, row[column.name], name) for column in self._columns}
            if not self._takes(cells):
                raise ParityError(
                    f"'{name}': cannot be used as a sample: the transform '{self._transform.origin}' gives no finite "
                    "numbers for it. Leave that row out."
                )
            rows.append((name, cells))
            if len(rows) == _MAX_SAMPLES:
                self.skipped_samples = (f"in '{samples}', rows after the first {_MAX_SAMPLES}",)
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
            (f"unseen {column.name}", {**row, column.name: _unseen(profile)})
            for profile, column in zip(self._profiles, self._columns, strict=True)
            if (profile.categories or column.dtype == "string") and not column.categories
        ]
        return [(name, changed) for name, changed in odd if self._takes(changed)]


def to_arrays(row: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, NDArray[Any]]:
    """Return a row as the graph takes it: one array per column, [1, 1]; empty cells as NaN or an empty string."""
    arrays: dict[str, NDArray[Any]] = {}
    for column in columns:
        value = row[column.name]
        if column.dtype == "string":
            arrays[column.name] = np.array([["" if value is None else value]], dtype=object)
        else:
            arrays[column.name] = np.array([[math.nan if value is None else value]], dtype=column.dtype)
    return arrays


def _middle(profile: Profile, least: float | None) -> Any:
    """Return a cell that the training data had, or is likely to have had; not below ``least``."""
    if profile.categories:
        return profile.categories[0]
    if profile.dtype == "string":
        return ""
    return profile.center if least is None else max(profile.center, least)


def _unseen(profile: Profile) -> Any:
    """Return a value that no training row had."""
    return _UNSEEN if profile.dtype == "string" else max(profile.categories) + 1


def cell_of(column: Column, value: Any, subject: str) -> Any:
    """Return a cell of a file, where everything may be text, as a number where the column has numbers.

    Raises PreprocessingError, with ``subject`` as its name, where it is none.
    """
    if value is None or value == "":
        return None
    if column.dtype == "string":
        return str(value)
    try:
        number = float(value)
    except ValueError:
        raise PreprocessingError(
            f"'{subject}': column '{column.name}': not a number: expected a {column.dtype}, got {value!r:.80}. Correct "
            "the sample."
        ) from None
    if math.isnan(number):
        return None
    return int(number) if column.dtype == "int64" else number

"""Regression: named numbers in their own units."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.errors import InputError
from runtime.manifest import Regress
from runtime.outputs.interpreter import Interpreter, words_to_array
from runtime.outputs.shown import ShownResult

if TYPE_CHECKING:
    from runtime.outputs.metrics import Evaluation, Maps, Scores


class Estimate(ShownResult, frozen=True, kw_only=True):
    """The result of ``regress``: numbers by name, and the units that the manifest gives them, where it does."""

    input: str
    values: dict[str, float]
    # Rows do not have them: the manifest does.
    units: Annotated[dict[str, str], msgspec.Meta(extra_json_schema={"writeOnly": True})] = msgspec.field(
        default_factory=dict
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the row: plain dictionaries, strings and numbers."""
        return {"input": self.input, "values": dict(self.values)}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return names and values, float32, as arrays."""
        values = np.array(list(self.values.values()), dtype=np.float32)
        return {"names": words_to_array(list(self.values)), "values": values}

    def __str__(self) -> str:
        shown = (f"{name} {value:g} {self.units.get(name, '')}".rstrip() for name, value in self.values.items())
        return f"{self.input}: " + ", ".join(shown)


class RegressInterpreter(Interpreter):
    """Gives values, float32 [values], their names: an Estimate."""

    task: Regress
    result_type = Estimate
    must_be_finite = True
    is_evaluated = True

    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> Estimate:
        """Return the values by name."""
        del top_k, threshold
        return Estimate(
            input=name,
            values={value.name: float(score) for value, score in zip(self.task.values, scores, strict=True)},
            units={value.name: value.unit for value in self.task.values if value.unit},
        )

    def truth_columns(self, column: str) -> list[str]:
        """Return the values' own names: each has a column."""
        del column
        return [value.name for value in self.task.values]

    def read_truth(self, cells: Mapping[str, Any], *, name: str, folder: Path) -> list[float]:
        """Return the numbers in the cells; they have to be finite."""
        del folder
        try:
            numbers = [float(cell) for cell in cells.values()]
        except (TypeError, ValueError):
            raise InputError(f"'{name}': the truth is not a number: got {list(cells.values())}. Correct it.") from None
        if not np.isfinite(numbers).all():
            raise InputError(f"'{name}': the truth is not finite: got {numbers}. Correct it.")
        return numbers

    def evaluate(self, scored: "Scores | Maps", *, name: str) -> "Evaluation":
        """Return the errors of each value."""
        from runtime.outputs.metrics import Evaluation, Scores, ValueFigures

        assert isinstance(scored, Scores)
        error = scored.scores.astype(np.float64) - scored.truth
        variance = scored.truth.var(axis=0)
        return Evaluation(
            artifact=name,
            task=self.task.kind,
            inputs=len(error),
            failures=dict(scored.failures),
            values=tuple(
                ValueFigures(
                    name=value.name,
                    unit=value.unit,
                    mean_absolute_error=float(np.abs(error[:, row]).mean()),
                    root_mean_squared_error=float(np.sqrt((error[:, row] ** 2).mean())),
                    r2=float(1 - (error[:, row] ** 2).mean() / variance[row]) if variance[row] else None,
                )
                for row, value in enumerate(self.task.values)
            ),
        )

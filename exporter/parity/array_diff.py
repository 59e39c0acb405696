"""Differences between arrays: their form, and how far their values are apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.conversion.network_io import Arrays
from runtime.artifact.difference import absolute_difference
from runtime.evidence import HISTOGRAM_EDGES, Fault, Noise, Row, Stage


@dataclass(frozen=True, kw_only=True)
class ArrayDifference:
    """Difference of one case at one stage.

    ``values`` are the absolute differences of all values; ``fault`` and ``sentence`` say what is wrong with the form,
    such as a shape, where there is nothing to subtract. ``label_maps`` counts the arrays that hold labels instead of
    scores: they have no values to compare, and only their decisions can differ.
    """

    values: NDArray[np.float64]
    label_maps: int = 0
    fault: Fault | None = None
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Limits of the differences at one stage: ``noise`` by tensor, none where everything has to be equal."""

    unit: str
    noise: Mapping[str, Noise] = field(default_factory=dict)

    @property
    def loosest(self) -> Noise | None:
        """The noise of the tensor with the largest limit, to which the differences of the others are scaled."""
        return max(self.noise.values(), key=lambda noise: noise.limit, default=None)

    @property
    def floor(self) -> float:
        """The noise floor, in ``unit``."""
        return self.loosest.floor if self.loosest is not None else 0.0

    @property
    def limit(self) -> float:
        """The largest difference that is rounding, in ``unit``."""
        return self.loosest.limit if self.loosest is not None else 0.0


def measure_difference(actual: Arrays, expected: Arrays, tolerance: Tolerance) -> ArrayDifference:
    """Return the differences of all tensors, each scaled to the tolerance's largest limit.

    Names, shapes, dtypes and NaN or infinity where eager has none are faults of their own. Infinity stands for a
    difference where none at all is allowed.
    """
    if actual.keys() != expected.keys():
        got, required = (", ".join(f"'{name}'" for name in names) or "none" for names in (actual, expected))
        return _form_fault("names", f"expected {required}, got {got}")
    differences = []
    for name, expected_array in expected.items():
        array = actual[name]
        if array.shape != expected_array.shape:
            return _form_fault("shape", f"'{name}': expected {list(expected_array.shape)}, got {list(array.shape)}")
        if array.dtype != expected_array.dtype:
            return _form_fault("dtype", f"'{name}': expected {expected_array.dtype}, got {array.dtype}")
        if array.dtype.kind == "f":
            both_nan = np.isnan(array) & np.isnan(expected_array)
            bad = ~np.isfinite(array) & ((array != expected_array) & ~both_nan)
            if bad.any():
                return _form_fault("non-finite", f"'{name}': NaN or infinity in {int(bad.sum())} of {bad.size} values")
        differences.append(_scaled_difference(array, expected_array, tolerance.noise.get(name), tolerance.limit))
    return ArrayDifference(values=np.concatenate(differences) if differences else np.zeros(0))


def size_of(arrays: Sequence[NDArray[Any]]) -> float:
    """Return the largest finite absolute value."""
    return max((float(np.abs(_finite(array)).max(initial=0.0)) for array in arrays), default=0.0)


def signal_of(arrays: Sequence[NDArray[Any]]) -> float:
    """Return how much a tensor varies from case to case, at the indices that all of them have."""
    if not arrays or len({array.ndim for array in arrays}) > 1 or not arrays[0].size:
        return 0.0
    shape = np.min([array.shape for array in arrays], axis=0)
    window = tuple(slice(0, int(length)) for length in shape)
    low = high = _finite(arrays[0][window])
    for array in arrays[1:]:
        values = _finite(array[window])
        low, high = np.minimum(low, values), np.maximum(high, values)
    return float((high - low).max(initial=0.0))


@dataclass(frozen=True, kw_only=True)
class RowKey:
    """Which row a difference belongs to; ``compared`` says in words what was compared, for the finding."""

    path: str
    device: str
    stage: Stage
    group: str
    compared: str


class DifferenceTally:
    """The differences of one row, case by case."""

    def __init__(self, key: RowKey, tolerance: Tolerance) -> None:
        self._key = key
        self._tolerance = tolerance
        self._names: list[str] = []
        self._largest: list[float] = []
        self._form_faults: list[tuple[str, Fault, str]] = []
        self._values: list[NDArray[np.float32]] = []
        self._flipped: list[tuple[str, str]] = []
        self._planned = 0

    def add(self, name: str, difference: Callable[[], ArrayDifference]) -> None:
        """Add the difference of one case; a difference that cannot be computed is a fault, and no case."""
        self._planned += 1
        try:
            measured = difference()
        except Exception as error:  # whatever a runtime raises for an input that eager takes
            self._form_faults.append((name, "error", _message_of(error)))
            return
        self._names.append(name)
        if measured.fault is not None:
            self._form_faults.append((name, measured.fault, measured.sentence))
            self._largest.append(float("inf"))
            return
        self._largest.append(float(measured.values.max(initial=0.0)))
        # Evidence counts a label map as one equal value; that a label differs is a flip.
        equal = np.zeros(measured.label_maps, dtype=np.float32)
        self._values.append(np.concatenate([measured.values.astype(np.float32), equal]))

    def flip(self, name: str, sentence: str) -> None:
        """Add a case with another label, beyond what noise explains."""
        self._flipped.append((name, sentence))

    def row(self, *, label_agreement: float | None = None, top_k_agreement: float | None = None) -> Row:
        """Return the row of evidence."""
        key, tolerance = self._key, self._tolerance
        fault, finding, worst_input = self._judge()
        worst = max(self._largest, default=0.0)
        values = np.concatenate(self._values) if self._values else np.zeros(0, dtype=np.float32)
        return Row(
            path=key.path,
            device=key.device,
            stage=key.stage,
            group=key.group,
            planned=self._planned,
            inputs=len(self._names),
            fault=fault,
            finding=finding,
            worst_input=worst_input,
            unit=tolerance.unit,
            difference=worst if self._values and np.isfinite(worst) else None,
            difference_p99=_percentile_99(values) if self._values else None,
            share=float((values > 0).mean()) if values.size else None,
            floor=tolerance.floor,
            limit=tolerance.limit,
            histogram=_histogram(values, tolerance.floor),
            label_agreement=label_agreement,
            top_k_agreement=top_k_agreement,
        )

    def _judge(self) -> tuple[Fault | None, str, str]:
        """Return the fault, the finding in words, and the input that shows it."""
        compared, tolerance = self._key.compared, self._tolerance
        worst = max(self._largest, default=0.0)
        worst_input = self._names[int(np.argmax(self._largest))] if self._names else ""
        fault: Fault | None = None
        finding = ""
        if self._form_faults:
            worst_input, fault, sentence = self._form_faults[0]
            more = f", and {len(self._form_faults) - 1} more inputs" if len(self._form_faults) > 1 else ""
            finding = f"{compared}: {sentence}{more}"
        elif worst > tolerance.limit:
            fault = "label" if self._key.stage == "labels" else "value"
            over = sum(value > tolerance.limit for value in self._largest)
            allowed = f"at most {tolerance.limit:.1e} {tolerance.unit} from eager's" if tolerance.limit else "eager's"
            got = f"{worst:.3g} {tolerance.unit} off" if np.isfinite(worst) else "others"
            finding = f"{compared}: expected {allowed}, got {got}; {over} of {len(self._largest)} inputs are"
        if self._flipped and fault in (None, "value"):
            worst_input, sentence = self._flipped[0]
            fault = "label"
            finding = f"{compared}: {sentence}" + (f"; {finding.partition(': ')[2]}" if finding else "")
        return fault, finding, worst_input


def _form_fault(fault: Fault, sentence: str) -> ArrayDifference:
    return ArrayDifference(values=np.zeros(0), fault=fault, sentence=sentence)


def _scaled_difference(
    actual: NDArray[Any], expected: NDArray[Any], noise: Noise | None, largest_limit: float
) -> NDArray[np.float64]:
    if actual.dtype.kind in "OUS":
        return np.asarray(actual != expected, dtype=np.float64).ravel()
    difference = absolute_difference(actual, expected).ravel()
    if noise is None or largest_limit == 0.0:
        return difference
    if noise.limit == 0.0:
        return np.asarray(np.where(difference > 0, np.inf, 0.0))
    return difference * (largest_limit / noise.limit)


def _finite(array: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0))


def _percentile_99(values: NDArray[np.float32]) -> float:
    if not values.any():
        return 0.0
    # Between infinities, which stand for what cannot be compared, there is nothing to interpolate.
    percentile = float(np.percentile(values, 99, method="linear" if np.isfinite(values).all() else "higher"))
    return percentile if np.isfinite(percentile) else float(np.finfo(np.float32).max)


def _histogram(values: NDArray[np.float32], floor: float) -> tuple[int, ...]:
    if not floor or not values.size:
        return ()
    ratios = values[values > 0] / np.float32(floor)
    bins = np.digitize(ratios, HISTOGRAM_EDGES)
    counts = np.bincount(bins, minlength=len(HISTOGRAM_EDGES) + 1)
    return (int(values.size - ratios.size), *map(int, counts))


def _message_of(error: Exception) -> str:
    """Return an error on one line; TorchScript's interpreter has the cause last, behind its own code."""
    message = f"{type(error).__name__}: {str(error).strip()}"
    if "in the TorchScript interpreter" in message:
        message = message.splitlines()[-1]
    return " ".join(message.split())

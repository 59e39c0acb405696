"""Two sets of arrays beside each other: what is wrong with their form, and how far their values are apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.parity.cases import Arrays
from runtime.evidence import HISTOGRAM_EDGES, Fault, Noise, Row, Stage

_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class ArrayDifference:
    """One case at one stage: ``fault`` and ``sentence`` where the form is wrong, else how far each value is off.

    ``label_maps`` counts the arrays that hold labels instead of scores: they have no values to compare, and only their
    decisions can differ.
    """

    values: NDArray[np.float64]
    label_maps: int = 0
    fault: Fault | None = None
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What the differences of a stage are measured by: ``noise`` by tensor, none where everything has to be equal."""

    unit: str
    noise: Mapping[str, Noise] = field(default_factory=dict)

    @property
    def loosest(self) -> Noise | None:
        """The noise of the tensor with the largest limit, to which the others are brought."""
        return max(self.noise.values(), key=lambda noise: noise.limit, default=None)

    @property
    def floor(self) -> float:
        """The noise floor, in ``unit``."""
        return self.loosest.floor if self.loosest is not None else 0.0

    @property
    def limit(self) -> float:
        """The largest difference that is rounding, in ``unit``."""
        return self.loosest.limit if self.loosest is not None else 0.0


def measure_difference(actual: Arrays, expected: Arrays, ruler: Tolerance) -> ArrayDifference:
    """Return the differences of all tensors, each brought to the ruler's largest limit.

    Names, shapes, dtypes and NaN or infinity where eager has none are faults of their own. Infinity stands for a
    difference where there may be none at all.
    """
    if actual.keys() != expected.keys():
        got, wanted = (", ".join(f"'{name}'" for name in names) or "none" for names in (actual, expected))
        return _broken("names", f"expected {wanted}, got {got}")
    parts = []
    for name, wanted_array in expected.items():
        array = actual[name]
        if array.shape != wanted_array.shape:
            return _broken("shape", f"'{name}': expected {list(wanted_array.shape)}, got {list(array.shape)}")
        if array.dtype != wanted_array.dtype:
            return _broken("dtype", f"'{name}': expected {wanted_array.dtype}, got {array.dtype}")
        if array.dtype.kind == "f":
            bad = ~np.isfinite(array) & ((array != wanted_array) & ~(np.isnan(array) & np.isnan(wanted_array)))
            if bad.any():
                return _broken("non-finite", f"'{name}': NaN or infinity in {int(bad.sum())} of {bad.size} values")
        parts.append(_scaled(array, wanted_array, ruler.noise.get(name), ruler.limit))
    return ArrayDifference(values=np.concatenate(parts) if parts else np.zeros(0))


def largest(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest absolute difference; infinite where the shapes differ, zero between equal infinities."""
    if one.shape != other.shape:
        return float("inf")
    return float(_apart(one, other).max(initial=0.0))


def size_of(arrays: Sequence[NDArray[Any]]) -> float:
    """Return the largest finite absolute value."""
    return max((float(np.abs(_finite(array)).max(initial=0.0)) for array in arrays), default=0.0)


def signal_of(arrays: Sequence[NDArray[Any]]) -> float:
    """Return how much a tensor varies from case to case, in the places that all of them have."""
    if not arrays or len({array.ndim for array in arrays}) > 1 or not arrays[0].size:
        return 0.0
    shape = np.min([array.shape for array in arrays], axis=0)
    window = tuple(slice(0, int(length)) for length in shape)
    low = high = _finite(arrays[0][window])
    for array in arrays[1:]:
        found = _finite(array[window])
        low, high = np.minimum(low, found), np.maximum(high, found)
    return float((high - low).max(initial=0.0))


class DifferenceTally:
    """The differences of one row, case by case."""

    def __init__(self, ruler: Tolerance) -> None:
        self._ruler = ruler
        self._names: list[str] = []
        self._worst: list[float] = []
        self._broken: list[tuple[str, Fault, str]] = []
        self._parts: list[NDArray[np.float32]] = []
        self._flipped: list[tuple[str, str]] = []
        self._planned = 0

    def add(self, name: str, difference: Callable[[], ArrayDifference]) -> None:
        """Take the difference of one case; one that cannot be computed is a fault, and no case."""
        self._planned += 1
        try:
            found = difference()
        except Exception as error:  # whatever a runtime raises for an input that eager takes
            self._broken.append((name, "error", f"{type(error).__name__}: {' '.join(str(error).split())}"))
            return
        self._names.append(name)
        if found.fault is not None:
            self._broken.append((name, found.fault, found.sentence))
            self._worst.append(float("inf"))
            return
        self._worst.append(float(found.values.max(initial=0.0)))
        # Evidence counts a label map as one equal value; that a label differs is a flip.
        equal = np.zeros(found.label_maps, dtype=np.float32)
        self._parts.append(np.concatenate([found.values.astype(np.float32), equal]))

    def flip(self, name: str, sentence: str) -> None:
        """Take that a case has another label, beyond what noise explains."""
        self._flipped.append((name, sentence))

    def row(
        self,
        path: str,
        device: str,
        stage: Stage,
        group: str,
        what: str,
        *,
        label_agreement: float | None = None,
        top_k_agreement: float | None = None,
    ) -> Row:
        """Return the row; ``what`` was compared, in words, for the finding."""
        ruler = self._ruler
        worst = max(self._worst, default=0.0)
        place = int(np.argmax(self._worst)) if self._worst else 0
        named = self._names[place] if self._names else ""
        fault: Fault | None = None
        finding = ""
        if self._broken:
            named, fault, sentence = self._broken[0]
            more = f", and {len(self._broken) - 1} more inputs" if len(self._broken) > 1 else ""
            finding = f"{what}: {sentence}{more}"
        elif worst > ruler.limit:
            fault = "label" if stage == "labels" else "value"
            over = sum(value > ruler.limit for value in self._worst)
            allowed = f"at most {ruler.limit:.1e} {ruler.unit} from eager's" if ruler.limit else "eager's"
            got = f"{worst:.3g} {ruler.unit} off" if np.isfinite(worst) else "others"
            finding = f"{what}: expected {allowed}, got {got}; {over} of {len(self._worst)} inputs are"
        if self._flipped and fault in (None, "value"):
            named, sentence = self._flipped[0]
            fault = "label"
            finding = f"{what}: {sentence}" + (f"; {finding.partition(': ')[2]}" if finding else "")
        together = np.concatenate(self._parts) if self._parts else np.zeros(0, dtype=np.float32)
        return Row(
            path=path,
            device=device,
            stage=stage,
            group=group,
            planned=self._planned,
            inputs=len(self._names),
            fault=fault,
            finding=finding,
            worst_input=named,
            unit=ruler.unit,
            difference=worst if self._parts and np.isfinite(worst) else None,
            difference_p99=_percentile_99(together) if self._parts else None,
            share=float((together > 0).mean()) if together.size else None,
            floor=ruler.floor,
            limit=ruler.limit,
            histogram=_histogram(together, ruler.floor),
            label_agreement=label_agreement,
            top_k_agreement=top_k_agreement,
        )


def _broken(fault: Fault, sentence: str) -> ArrayDifference:
    return ArrayDifference(values=np.zeros(0), fault=fault, sentence=sentence)


def _scaled(actual: NDArray[Any], expected: NDArray[Any], noise: Noise | None, loosest: float) -> NDArray[np.float64]:
    if actual.dtype.kind in "OUS":
        return np.asarray(actual != expected, dtype=np.float64).ravel()
    apart = _apart(actual, expected).ravel()
    if noise is None or loosest == 0.0:
        return apart
    if noise.limit == 0.0:
        return np.asarray(np.where(apart > 0, np.inf, 0.0))
    return apart * (loosest / noise.limit)


def _apart(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    first, second = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore"):
        alike = (first == second) | (np.isnan(first) & np.isnan(second))
        found: NDArray[np.float64] = np.where(alike, 0.0, np.abs(first - second))
    return np.asarray(np.nan_to_num(found, nan=np.inf, posinf=np.inf), dtype=np.float64)


def _finite(array: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0))


def _percentile_99(together: NDArray[np.float32]) -> float:
    if not together.size:
        return 0.0
    # Between infinities, which stand for what cannot be compared, there is nothing to interpolate.
    found = float(np.percentile(together, 99, method="linear" if np.isfinite(together).all() else "higher"))
    return found if np.isfinite(found) else float(np.finfo(np.float32).max)


def _histogram(together: NDArray[np.float32], floor: float) -> tuple[int, ...]:
    if not floor or not together.size:
        return ()
    unequal = together[together > 0] / np.float32(floor)
    places = np.digitize(unequal, HISTOGRAM_EDGES)
    counts = np.bincount(places, minlength=len(HISTOGRAM_EDGES) + 1)
    return (int(together.size - unequal.size), *map(int, counts))

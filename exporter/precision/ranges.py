"""Ranges of activations on calibration data, by onnxruntime's calibrators."""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator

from exporter.precision.data import Arrays, digest_arrays

RangeMethod: TypeAlias = Literal["min-max", "percentile", "entropy"]

# In the order in which they are tried. The options are those of onnxruntime's calibrators.
PERCENTILE = 99.999
_METHODS: Mapping[RangeMethod, tuple[CalibrationMethod, Mapping[str, Any]]] = {
    "min-max": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": PERCENTILE}),
    "entropy": (CalibrationMethod.Entropy, {}),
}
RANGE_METHODS: tuple[RangeMethod, ...] = tuple(_METHODS)

# Operators whose output the quantizer gives the range of their input: they move values, and make none that are larger.
PASSING = ("MaxPool", "AveragePool", "Resize", "Pad", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
# Operators that cut off what an unsigned range cuts off as well: the quantizer gives their input the range of their
# output.
CUTTING = ("Relu", "Clip")
# Operators whose activations are quantized: those with 8-bit kernels on a CPU.
OPERATORS = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "LeakyRelu", "Sigmoid", "Concat", "GlobalAveragePool"),
    *CUTTING,
    *PASSING,
)
# Of networks that are mostly matrix products, only the operators with weights are quantized.
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather")

# The histogram calibrators keep all tensors of the inputs that they get at once.
_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The ranges of a network's activations, and the SHA-256 of each input's arrays that they were taken from.

    They are those of what the ``operators`` take and give.
    """

    method: RangeMethod
    tensors: TensorsData
    inputs: tuple[str, ...]
    operators: tuple[str, ...] = OPERATORS

    def of(self, tensor: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a tensor; zero is always between them."""
        lowest, highest = (float(np.reshape(value, ())) for value in self.tensors[tensor].range_value)
        return min(lowest, 0.0), max(highest, 0.0)


class _Reader:
    """What onnxruntime's calibrators read inputs from, and which ones it gave them."""

    def __init__(self, inputs: Sequence[Arrays]) -> None:
        self._left: Iterator[Arrays] = iter(inputs)
        self.read: list[str] = []

    def get_next(self) -> Arrays | None:
        """Return the arrays of the next input; None after the last."""
        arrays = next(self._left, None)
        if arrays is not None:
            self.read.append(digest_arrays(arrays))
        return arrays


def measure_ranges(
    network: onnx.ModelProto, inputs: Sequence[Arrays], method: RangeMethod, *, operators: tuple[str, ...] = OPERATORS
) -> Ranges:
    """Return the ranges of the activations of ``operators`` in ``network`` on ``inputs``, as ``method`` finds them."""
    kind, options = _METHODS[method]
    read: list[str] = []
    with tempfile.TemporaryDirectory(prefix="truecopy-") as scratch, contextlib.redirect_stdout(io.StringIO()):
        path = Path(scratch) / "network.onnx"
        onnx.save(network, path)
        calibrator = create_calibrator(
            path,
            list(operators),
            augmented_model_path=str(Path(scratch) / "augmented.onnx"),
            calibrate_method=kind,
            extra_options=dict(options),
        )
        for start in range(0, len(inputs), _AT_ONCE):
            reader = _Reader(inputs[start : start + _AT_ONCE])
            calibrator.collect_data(reader)
            read += reader.read
        tensors = calibrator.compute_data()
    return Ranges(method=method, tensors=tensors, inputs=tuple(read), operators=operators)

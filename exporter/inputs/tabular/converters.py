"""Converters of fitted steps that skl2onnx lacks, or has not in float64 or with every option.

The formulas are scikit-learn's own, of the versions in constraints.txt; parity with the fitted step proves each export.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from exporter.inputs.tabular.encoding import encode_categories
from exporter.inputs.tabular.imputing import calculate_shape, fill_in, indicate
from exporter.inputs.tabular.skl2onnx_nodes import SklearnNodeBuilder

# Functions that a FunctionTransformer may have, and what they are in ONNX.
_FUNCTIONS: dict[Any, Callable[[SklearnNodeBuilder, str], str]] = {
    None: lambda _writer, values: values,
    np.log: lambda writer, values: writer.add("Log", values),
    np.log1p: lambda writer, values: writer.add("Log", writer.calculate("Add", values, 1.0)),
    np.log2: lambda writer, values: writer.calculate("Div", writer.add("Log", values), float(np.log(2.0))),
    np.log10: lambda writer, values: writer.calculate("Div", writer.add("Log", values), float(np.log(10.0))),
    np.exp: lambda writer, values: writer.add("Exp", values),
    np.expm1: lambda writer, values: writer.calculate("Sub", writer.add("Exp", values), 1.0),
    np.sqrt: lambda writer, values: writer.add("Sqrt", values),
    np.abs: lambda writer, values: writer.add("Abs", values),
    np.square: lambda writer, values: writer.calculate("Mul", values, values),
    np.reciprocal: lambda writer, values: writer.calculate("Div", 1.0, values),
    np.tanh: lambda writer, values: writer.add("Tanh", values),
    np.sin: lambda writer, values: writer.add("Sin", values),
}

# What scikit-learn's QuantileTransformer takes for the lowest and highest probability of its normal distribution.
_EDGE = 1e-7

# Wichura, Algorithm AS241: the percentage points of the normal distribution, 1988; coefficients from the highest power.
# The third of its ranges lies beyond _EDGE.
_MIDDLE = (
    (
        2509.0809287301226727,
        33430.575583588128105,
        67265.770927008700853,
        45921.953931549871457,
        13731.693765509461125,
        1971.5909503065514427,
        133.14166789178437745,
        3.3871328727963666080,
    ),
    (
        5226.4952788528545610,
        28729.085735721942674,
        39307.895800092710610,
        21213.794301586595867,
        5394.1960214247511077,
        687.18700749205790830,
        42.313330701600911252,
        1.0,
    ),
)
_TAIL = (
    (
        7.7454501427834140764e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258,
        3.64784832476320460504,
        5.76949722146069140550,
        4.63033784615654529590,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940,
        2.05319162663775882187,
        1.0,
    ),
)


def converters() -> tuple[dict[type[Any], Any], dict[type[Any], Any]]:
    """Return the shape calculators and the converters by the type of the step, as skl2onnx takes them."""
    from sklearn import feature_selection, impute, preprocessing

    numeric: dict[type[Any], tuple[Callable[[Any], int], Callable[[SklearnNodeBuilder], None]]] = {
        impute.MissingIndicator: (lambda step: len(step.features_), indicate),
        preprocessing.Binarizer: (lambda step: step.n_features_in_, _compare),
        preprocessing.FunctionTransformer: (lambda step: step.n_features_in_, _apply_function),
        preprocessing.KBinsDiscretizer: (_count_bins, _put_into_bins),
        preprocessing.Normalizer: (lambda step: step.n_features_in_, _bring_to_length),
        preprocessing.PolynomialFeatures: (lambda step: step.n_output_features_, _multiply),
        preprocessing.PowerTransformer: (lambda step: step.n_features_in_, _raise_to_power),
        preprocessing.QuantileTransformer: (lambda step: step.n_features_in_, _rank),
        preprocessing.SplineTransformer: (lambda step: step.n_features_out_, _draw_splines),
        preprocessing.OneHotEncoder: (lambda step: int(sum(step._n_features_outs)), encode_categories),
        preprocessing.OrdinalEncoder: (lambda step: len(step.categories_), encode_categories),
    }
    numeric |= {
        getattr(feature_selection, name): (lambda step: int(step.get_support().sum()), _select)
        for name in feature_selection.__all__
        if hasattr(getattr(feature_selection, name), "get_support") and name != "SelectorMixin"
    }
    shapes = {kind: _shape_of(count) for kind, (count, _) in numeric.items()}
    conversions = {kind: _convert_with(write) for kind, (_, write) in numeric.items()}
    return (
        {**shapes, impute.SimpleImputer: calculate_shape},
        {**conversions, impute.SimpleImputer: _convert_with(fill_in)},
    )


def _shape_of(count: Callable[[Any], int]) -> Callable[[Any], None]:
    def calculate(operator: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType

        operator.outputs[0].type = DoubleTensorType([None, count(operator.raw_operator)])

    return calculate


def _convert_with(write: Callable[[SklearnNodeBuilder], None]) -> Callable[[Any, Any, Any], None]:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        write(SklearnNodeBuilder(scope, operator, container))

    return convert


def _apply_function(writer: SklearnNodeBuilder) -> None:
    function = writer.step.func
    if function not in _FUNCTIONS or writer.step.kw_args:
        known = ", ".join(f"numpy.{known.__name__}" for known in _FUNCTIONS if known is not None)
        name = getattr(function, "__name__", repr(function))
        raise ValueError(f"the function '{name}' is Python: expected one of {known}, without arguments")
    writer.finish(_FUNCTIONS[function](writer, writer.numbers()))


def _compare(writer: SklearnNodeBuilder) -> None:
    # skl2onnx 1.20 also gives 1 for the threshold itself.
    above = writer.calculate("Greater", writer.numbers(), float(writer.step.threshold))
    writer.finish(writer.as_number(above))


def _select(writer: SklearnNodeBuilder) -> None:
    writer.finish(writer.columns(writer.numbers(), np.flatnonzero(writer.step.get_support()).tolist()))


def _bring_to_length(writer: SklearnNodeBuilder) -> None:
    values, axes = writer.numbers(), writer.constant([1], np.int64)
    match writer.step.norm:
        case "l1":
            length = writer.add("ReduceSum", writer.add("Abs", values), axes, keepdims=1)
        case "l2":
            squares = writer.add("Mul", values, values)
            length = writer.add("Sqrt", writer.add("ReduceSum", squares, axes, keepdims=1))
        case _:
            length = writer.add("ReduceMax", writer.add("Abs", values), axes, keepdims=1)
    # A row of zeros stays one.
    length = writer.add("Where", writer.calculate("Equal", length, 0.0), writer.constant(1.0), length)
    writer.finish(writer.add("Div", values, length))


def _multiply(writer: SklearnNodeBuilder) -> None:
    """Write each feature as a product of columns: as many factors as the degree, ones among them."""
    powers = writer.step.powers_
    count = powers.shape[1]
    padding = writer.constant([0, 0, 0, 1], np.int64)
    factors = writer.add("Pad", writer.numbers(), padding, writer.constant(1.0))
    rows = [np.repeat(np.arange(count), power).tolist() for power in powers]
    degree = max(1, *map(len, rows))
    product = ""
    for number in range(degree):
        factor = writer.columns(factors, [row[number] if number < len(row) else count for row in rows])
        product = writer.calculate("Mul", product, factor) if product else factor
    writer.finish(product)


def _raise_to_power(writer: SklearnNodeBuilder) -> None:
    """Write Box-Cox, or Yeo-Johnson, whose negative side is Box-Cox of ``1 - x`` with ``2 - lambda``, negated."""
    values = writer.numbers()
    powers: NDArray[np.float64] = np.asarray(writer.step.lambdas_)
    if writer.step.method == "box-cox":
        # scikit-learn refuses what is not positive; the runtime refuses a NaN.
        positive = writer.calculate("Greater", values, 0.0)
        powered = writer.add("Where", positive, _box_cox(writer, values, powers), writer.constant(np.nan))
    else:
        above = writer.calculate("Add", writer.calculate("Max", values, 0.0), 1.0)
        below = writer.calculate("Sub", 1.0, writer.calculate("Min", values, 0.0))
        negative = writer.add("Neg", _box_cox(writer, below, 2 - powers))
        is_above = writer.calculate("GreaterOrEqual", values, 0.0)
        powered = writer.add("Where", is_above, _box_cox(writer, above, powers), negative)
        powered = writer.keep_missing(values, powered)
    if writer.step.standardize:
        scaler = writer.step._scaler
        powered = writer.add("Sub", powered, writer.constant(scaler.mean_))
        powered = writer.add("Div", powered, writer.constant(scaler.scale_))
    writer.finish(powered)


def _box_cox(writer: SklearnNodeBuilder, values: str, powers: NDArray[np.float64]) -> str:
    """Return ``(values ** power - 1) / power``, and the logarithm where the power is zero; one power per column."""
    logs = writer.add("Log", values)
    flat = np.abs(powers) < np.spacing(1.0)
    if flat.all():
        return logs
    divisor = writer.constant(np.where(flat, 1.0, powers))
    power = writer.add("Pow", values, divisor)
    raised = writer.add("Div", writer.calculate("Sub", power, 1.0), divisor)
    return writer.add("Where", writer.constant(flat, np.bool_), logs, raised) if flat.any() else raised


def _count_bins(step: Any) -> int:
    return int(step.n_features_in_) if step.encode == "ordinal" else int(sum(step.n_bins_))


def _put_into_bins(writer: SklearnNodeBuilder) -> None:
    values = writer.numbers()
    parts = []
    for index, edges in enumerate(writer.step.bin_edges_):
        reached = writer.add("GreaterOrEqual", writer.column(values, index), writer.constant(edges[np.newaxis, 1:-1]))
        axes = writer.constant([1], np.int64)
        code = writer.add("ReduceSum", writer.as_number(reached), axes, keepdims=1)
        if writer.step.encode != "ordinal":
            bins = writer.constant(np.arange(len(edges) - 1, dtype=np.float64)[np.newaxis])
            code = writer.as_number(writer.add("Equal", code, bins))
        parts.append(code)
    writer.finish(*parts)


def _rank(writer: SklearnNodeBuilder) -> None:
    """Write the share of the training's values that lie below, and for a normal distribution its quantile there."""
    normal = writer.step.output_distribution == "normal"
    values = writer.numbers()
    shares = [
        _share(writer, writer.column(values, index), column, writer.step.references_, normal=normal)
        for index, column in enumerate(writer.step.quantiles_.T)
    ]
    share = shares[0] if len(shares) == 1 else writer.add("Concat", *shares, axis=1)
    ranks = _normal_quantile(writer, share) if normal else share
    writer.finish(writer.keep_missing(values, ranks))


def _share(
    writer: SklearnNodeBuilder,
    values: str,
    quantiles: NDArray[np.float64],
    references: NDArray[np.float64],
    *,
    normal: bool,
) -> str:
    """Return the mean of interpolating from the left and from the right, which differ where quantiles repeat."""
    last = len(quantiles) - 1
    if last < 1:
        raise ValueError("a QuantileTransformer with one quantile is no curve: expected at least 2 quantiles")
    row = writer.constant(quantiles[np.newaxis])
    sides = []
    for reached in ("GreaterOrEqual", "Greater"):
        axes = writer.constant([1], np.int64)
        truth = writer.add("Cast", writer.add(reached, values, row), to=onnx.TensorProto.INT64)
        position = writer.add("ReduceSum", truth, axes, keepdims=1)
        position = writer.add("Add", position, writer.constant(-1, np.int64))
        position = writer.add(
            "Min", writer.add("Max", position, writer.constant(0, np.int64)), writer.constant(last - 1, np.int64)
        )
        steps = np.diff(quantiles)
        slopes = np.where(steps > 0, np.diff(references) / np.where(steps > 0, steps, 1.0), 0.0)
        start, low, slope = (
            writer.add("Gather", writer.constant(table), position, axis=0)
            for table in (quantiles[:-1], references[:-1], slopes)
        )
        climbed = writer.add("Mul", writer.add("Sub", values, start), slope)
        sides.append(writer.add("Add", low, climbed))
    share = writer.calculate("Mul", writer.add("Add", *sides), 0.5)
    near = _EDGE if normal else 0.0
    above = writer.calculate("Greater" if normal else "GreaterOrEqual", values, float(quantiles[-1]) - near)
    below = writer.calculate("Less" if normal else "LessOrEqual", values, float(quantiles[0]) + near)
    share = writer.add("Where", above, writer.constant(1.0), share)
    return writer.add("Where", below, writer.constant(0.0), share)


def _normal_quantile(writer: SklearnNodeBuilder, share: str) -> str:
    """Return the normal distribution's quantiles of probabilities, as far out as scikit-learn goes."""
    edge = _EDGE - float(np.spacing(1.0))
    share = writer.calculate("Min", writer.calculate("Max", share, edge), 1 - edge)
    offset = writer.calculate("Sub", share, 0.5)
    square = writer.calculate("Sub", 0.180625, writer.calculate("Mul", offset, offset))
    middle = writer.calculate("Mul", _ratio(writer, square, _MIDDLE), offset)
    tail = writer.calculate("Min", share, writer.calculate("Sub", 1.0, share))
    root = writer.add("Sqrt", writer.add("Neg", writer.add("Log", tail)))
    far = _ratio(writer, writer.calculate("Sub", root, 1.6), _TAIL)
    far = writer.calculate("Mul", far, writer.add("Sign", offset))
    near = writer.calculate("LessOrEqual", writer.add("Abs", offset), 0.425)
    return writer.add("Where", near, middle, far)


def _ratio(writer: SklearnNodeBuilder, values: str, coefficients: Sequence[Sequence[float]]) -> str:
    """Return one polynomial divided by another, by Horner's rule."""
    evaluated = []
    for polynomial in coefficients:
        current = writer.calculate("Mul", values, polynomial[0])
        for coefficient in polynomial[1:-1]:
            current = writer.calculate("Mul", writer.calculate("Add", current, coefficient), values)
        evaluated.append(writer.calculate("Add", current, polynomial[-1]))
    return writer.add("Div", *evaluated)


def _draw_splines(writer: SklearnNodeBuilder) -> None:
    """Write the B-splines by the recursion of Cox and de Boor; beyond the outer knots they stay as they are there."""
    step = writer.step
    if step.extrapolation != "constant" or step.degree < 1:
        raise ValueError(
            f"SplineTransformer(degree={step.degree}, extrapolation={step.extrapolation!r}) is not supported: expected "
            "a degree of at least 1, and extrapolation='constant'"
        )
    values = writer.numbers()
    parts = []
    for index, spline in enumerate(step.bsplines_):
        knots: NDArray[np.float64] = np.asarray(spline.t)
        low, high = float(knots[step.degree]), float(knots[-step.degree - 1])
        column = writer.column(values, index)
        inside = writer.calculate("Min", writer.calculate("Max", column, low), high)
        from_left = writer.add("GreaterOrEqual", inside, writer.constant(knots[np.newaxis, :-1]))
        to_right = writer.add("Less", inside, writer.constant(knots[np.newaxis, 1:]))
        current = writer.as_number(writer.add("And", from_left, to_right))
        for degree in range(1, step.degree + 1):
            count = len(knots) - 1 - degree
            rising = writer.add("Sub", inside, writer.constant(knots[np.newaxis, :count]))
            rising = writer.add("Div", rising, writer.constant(_width(knots[degree:-1] - knots[:count])))
            falling = writer.add("Sub", writer.constant(knots[np.newaxis, degree + 1 :]), inside)
            falling = writer.add("Div", falling, writer.constant(_width(knots[degree + 1 :] - knots[1 : count + 1])))
            left, right = (writer.columns(current, range(start, start + count)) for start in (0, 1))
            current = writer.add("Add", writer.add("Mul", rising, left), writer.add("Mul", falling, right))
        kept = len(knots) - 1 - step.degree - (0 if step.include_bias else 1)
        parts.append(writer.keep_missing(column, writer.columns(current, range(kept))))
    writer.finish(*parts)


def _width(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lengths to divide by, [1, count]: between equal knots the dividend is zero as well."""
    return np.where(lengths == 0, 1.0, lengths)[np.newaxis]

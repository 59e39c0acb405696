"""Writer: a fitted transform of columns as ONNX nodes, in float64 until the last, as scikit-learn computes.

skl2onnx converts the transform. On its own it loses digits in two places, which a column such as a year or a price
shows: FeatureVectorizer gives float32, and ai.onnx.ml's Imputer has no float64. So the columns are joined here, and
missing values filled in by plain operators.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import compose, helper

from exporter.errors import PreprocessingError
from exporter.onnx_nodes import Nodes
from exporter.preprocessing.tables.reading import Statistics, TableReading
from exporter.to_onnx import OPSET
from runtime.manifest import Column

# The newest version of the machine-learning operators that skl2onnx writes and onnxruntime has in full.
ML_OPSET = 3

_KINDS = {
    "float64": onnx.TensorProto.DOUBLE,
    "float32": onnx.TensorProto.FLOAT,
    "int64": onnx.TensorProto.INT64,
    "string": onnx.TensorProto.STRING,
}
_PREFIX = "columns/"


def column_info(column: Column) -> onnx.ValueInfoProto:
    """Return a column as the graph's input: [batch, 1]."""
    return helper.make_tensor_value_info(column.name, _KINDS[column.dtype], ["batch", 1])


def table_nodes(reading: TableReading, columns: Sequence[Column], *, features: str) -> Nodes:
    """Return nodes from one input a column, [batch, 1], to float32 ``features`` [batch, features].

    Raises PreprocessingError where skl2onnx does not convert a part of the transform.
    """
    nodes = Nodes("table")
    transformer = reading.transformer
    if isinstance(transformer, Statistics):
        count = len(columns)
        current = nodes.add("Concat", *(column.name for column in columns), axis=1)
        current = nodes.add("Sub", current, nodes.doubles(transformer.offset, name="offset"))
        current = nodes.add("Div", current, nodes.doubles(transformer.scale, name="scale"))
        nodes.add("Cast", current, to=onnx.TensorProto.FLOAT, output=features)
        assert count == len(transformer.offset)
        return nodes
    joined = not _takes_names(transformer) and len({column.dtype for column in columns}) == 1
    model = _convert(reading, columns, joined=joined)
    given = {value.name: name for value, name in zip(model.graph.input, _names(columns, joined=joined), strict=True)}
    if joined:
        nodes.add("Concat", *(column.name for column in columns), axis=1, output=_JOINED)
    inner = compose.add_prefix(model, _PREFIX)
    renamed = {_PREFIX + name: outside for name, outside in given.items()}
    for node in inner.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.doc_string = ""
        nodes.nodes.append(node)
    nodes.constants |= {value.name: value for value in inner.graph.initializer}
    (output,) = inner.graph.output
    nodes.add("Cast", output.name, to=onnx.TensorProto.FLOAT, output=features)
    return nodes


_JOINED = "table/joined"


def _names(columns: Sequence[Column], *, joined: bool) -> list[str]:
    return [_JOINED] if joined else [column.name for column in columns]


def _takes_names(transformer: Any) -> bool:
    """Return whether the transform treats columns one by one, so that skl2onnx wants each as an input."""
    while hasattr(transformer, "steps"):
        transformer = transformer.steps[0][1]
    return hasattr(transformer, "transformers_")


def _convert(reading: TableReading, columns: Sequence[Column], *, joined: bool) -> onnx.ModelProto:
    import skl2onnx
    from skl2onnx.common import data_types
    from sklearn.impute import SimpleImputer

    kinds = {
        "float64": data_types.DoubleTensorType,
        "float32": data_types.FloatTensorType,
        "int64": data_types.Int64TensorType,
        "string": data_types.StringTensorType,
    }
    if joined:
        types = [(_JOINED, kinds[columns[0].dtype]([None, len(columns)]))]
    else:
        types = [(column.name, kinds[column.dtype]([None, 1])) for column in columns]
    try:
        with _quiet():
            model: onnx.ModelProto = skl2onnx.convert_sklearn(
                reading.transformer,
                name="columns",
                initial_types=types,
                target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
                custom_conversion_functions={SimpleImputer: _impute},
                custom_shape_calculators={SimpleImputer: _imputed_shape},
            )
    except Exception as error:  # skl2onnx raises what each of its converters raises
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise PreprocessingError(
            f"'{reading.origin}': skl2onnx cannot convert it: {type(error).__name__}: {reason}. Replace that step, or "
            "apply it before the model."
        ) from error
    if len(model.graph.output) != 1:
        names = ", ".join(value.name for value in model.graph.output)
        raise PreprocessingError(f"'{reading.origin}': gives several outputs: expected one, got {names}. Join them.")
    return model


def _imputed_shape(operator: Any) -> None:
    """Say that an imputer gives as many columns as it is given, less those without any value."""
    imputer = operator.raw_operator
    _check_imputer(imputer)
    kind = type(operator.inputs[0].type)
    kept = sum(not _is_nan(value) for value in imputer.statistics_)
    operator.outputs[0].type = kind([None, kept])


def _impute(scope: Any, operator: Any, container: Any) -> None:
    """Write an imputer as IsNaN, or an empty string, and Where, in the column's own type."""
    imputer = operator.raw_operator
    source, target = operator.inputs[0], operator.outputs[0]
    kept = [place for place, value in enumerate(imputer.statistics_) if not _is_nan(value)]
    values = [imputer.statistics_[place] for place in kept]
    kind = onnx.TensorProto.STRING if isinstance(values[0], str) else _element_type(source)

    def constant(name: str, element: int, shape: list[int], content: list[Any]) -> str:
        unique: str = scope.get_unique_variable_name(name)
        container.add_initializer(unique, element, shape, content)
        return unique

    current = source.full_name
    if len(kept) < len(imputer.statistics_):
        picked = scope.get_unique_variable_name("kept")
        places = constant("places", onnx.TensorProto.INT64, [len(kept)], kept)
        container.add_node("Gather", [current, places], picked, axis=1, name=scope.get_unique_operator_name("Gather"))
        current = picked
    missing = scope.get_unique_variable_name("missing")
    if kind == onnx.TensorProto.STRING:
        empty = constant("empty", kind, [1], [b""])
        container.add_node(
            "Equal", [current, empty], missing, name=scope.get_unique_operator_name("Equal"), op_version=19
        )
        filling = constant("filling", kind, [1, len(kept)], [str(value).encode() for value in values])
    else:
        container.add_node("IsNaN", current, missing, name=scope.get_unique_operator_name("IsNaN"), op_version=13)
        filling = constant("filling", kind, [1, len(kept)], [float(value) for value in values])
    container.add_node(
        "Where",
        [missing, filling, current],
        target.full_name,
        name=scope.get_unique_operator_name("Where"),
        op_version=16,
    )


def _element_type(variable: Any) -> int:
    name = type(variable.type).__name__
    return onnx.TensorProto.DOUBLE if name.startswith("Double") else onnx.TensorProto.FLOAT


def _check_imputer(imputer: Any) -> None:
    marker = imputer.missing_values
    if imputer.add_indicator or not (_is_nan(marker) or marker is None or marker == ""):
        raise ValueError(
            f"SimpleImputer(missing_values={marker!r}, add_indicator={imputer.add_indicator}) is not supported: "
            "expected NaN or empty cells, without an indicator"
        )


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence skl2onnx's remarks: parity judges what it gives."""
    logger = logging.getLogger("skl2onnx")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)

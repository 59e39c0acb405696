"""ONNX nodes of a fitted transform of columns, in float64 up to the last, as scikit-learn computes.

skl2onnx converts the transform, with ``converters`` of our own beside its. Its FeatureVectorizer gives float32, which
a column such as a year or a price shows, so the columns are joined here.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import compose, helper

from exporter.conversion.node_builder import NodeBuilder
from exporter.conversion.to_onnx import OPSET
from exporter.errors import PreprocessingError, one_line
from exporter.inputs.tabular.converters import converters
from exporter.inputs.tabular.estimator import ColumnStatistics, TabularTransform
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


def table_nodes(transform: TabularTransform, columns: Sequence[Column], *, features: str) -> NodeBuilder:
    """Return nodes from one input per column, [batch, 1], to float32 ``features`` [batch, features].

    Raises PreprocessingError where skl2onnx does not convert a part of the transform.
    """
    nodes = NodeBuilder("table")
    transformer = transform.transformer
    if isinstance(transformer, ColumnStatistics):
        count = len(columns)
        current = nodes.add("Concat", *(column.name for column in columns), axis=1)
        current = nodes.add("Sub", current, nodes.doubles(transformer.offset, name="offset"))
        current = nodes.add("Div", current, nodes.doubles(transformer.scale, name="scale"))
        nodes.add("Cast", current, to=onnx.TensorProto.FLOAT, output=features)
        assert count == len(transformer.offset)
        return nodes
    joined = not _takes_names(transformer) and len({column.dtype for column in columns}) == 1
    types = [(column.name, column.dtype, 1) for column in columns]
    if joined:
        types = [(_JOINED, columns[0].dtype, len(columns))]
    model = to_model(transformer, types, subject=f"'{transform.origin}'")
    if joined:
        nodes.add("Concat", *(column.name for column in columns), axis=1, output=_JOINED)
    inner = compose.add_prefix(model, _PREFIX)
    renamed = {_PREFIX + value.name: name for value, (name, _, _) in zip(model.graph.input, types, strict=True)}
    for node in inner.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.doc_string = ""
        nodes.nodes.append(node)
    nodes.constants |= {value.name: value for value in inner.graph.initializer}
    (output,) = inner.graph.output
    nodes.add("Cast", output.name, to=onnx.TensorProto.FLOAT, output=features)
    return nodes


_JOINED = "table/joined"

# How a user can fix a step that has no nodes.
WHAT_TO_DO = "Replace that step, or apply it to the rows before the model and leave it out of --preprocess."


def _takes_names(transformer: Any) -> bool:
    """Return whether the transform treats columns one by one, so that skl2onnx wants each as an input."""
    while hasattr(transformer, "steps"):
        transformer = transformer.steps[0][1]
    return hasattr(transformer, "transformers_")


def to_model(transformer: Any, types: Sequence[tuple[str, str, int]], *, subject: str) -> onnx.ModelProto:
    """Return a fitted transformer as a model; ``types`` are its inputs: name, element type and number of columns.

    Raises PreprocessingError, with ``subject`` as its name, where there is no such model.
    """
    import skl2onnx
    from skl2onnx.common import data_types, exceptions, utils

    kinds = {
        "float64": data_types.DoubleTensorType,
        "float32": data_types.FloatTensorType,
        "int64": data_types.Int64TensorType,
        "string": data_types.StringTensorType,
    }
    shapes, conversions = converters()
    try:
        with _quiet():
            model: onnx.ModelProto = skl2onnx.convert_sklearn(
                transformer,
                name="columns",
                initial_types=[(name, kinds[kind]([None, width])) for name, kind, width in types],
                target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
                custom_conversion_functions=conversions,
                custom_shape_calculators=shapes,
            )
    except (exceptions.MissingShapeCalculator, utils.InvalidInputTypeException) as error:
        raise PreprocessingError(f"{subject}: no conversion to ONNX in float64 is known. {WHAT_TO_DO}") from error
    except Exception as error:  # skl2onnx raises what each of its converters raises
        reason = one_line(error)
        raise PreprocessingError(f"{subject}: cannot be converted to ONNX: {reason}. {WHAT_TO_DO}") from error
    if len(model.graph.output) != 1:
        names = ", ".join(value.name for value in model.graph.output)
        raise PreprocessingError(f"{subject}: gives several outputs: expected one, got {names}. {WHAT_TO_DO}")
    return model


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence skl2onnx's warnings: parity judges its nodes."""
    logger = logging.getLogger("skl2onnx")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)

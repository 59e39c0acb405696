"""Check of a transform's nodes against the fitted transform, which names the step that differs."""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporter.conversion.network_io import Arrays
from exporter.conversion.node_builder import NodeBuilder
from exporter.conversion.to_onnx import IR_VERSION, LOG_FATAL, OPSET
from exporter.errors import PreprocessingError, one_line
from exporter.inputs.tabular.estimator import ColumnStatistics, TabularTransform
from exporter.inputs.tabular.to_onnx import ML_OPSET, WHAT_TO_DO, column_info, table_nodes, to_model
from runtime.manifest import Column

# Relative to the largest value of a feature: a few roundings of float32.
_LIMIT = 1e-6


def proven_nodes(
    transform: TabularTransform,
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    arrays: Sequence[Arrays],
    *,
    features: str,
) -> NodeBuilder:
    """Return the transform's nodes, from one input per column to ``features``, after running them on ``rows``.

    ``arrays`` are the rows as the graph takes them. Raises PreprocessingError that names the step which has no nodes,
    or whose nodes differ from the fitted step.
    """
    expected = np.concatenate([transform.transform([row]) for row in rows])
    try:
        nodes = table_nodes(transform, columns, features=features)
        model = helper.make_model(
            helper.make_graph(
                nodes.nodes,
                "table",
                [column_info(column) for column in columns],
                [helper.make_tensor_value_info(features, TensorProto.FLOAT, ["batch", expected.shape[1]])],
                list(nodes.constants.values()),
            ),
            ir_version=IR_VERSION,
            opset_imports=_OPSETS,
        )
        batch = {name: np.concatenate([row[name] for row in arrays]) for name in arrays[0]}
        _check(model.SerializeToString(), batch, expected, f"'{transform.origin}'")
    except PreprocessingError as error:
        if not isinstance(transform.transformer, ColumnStatistics):
            _check_steps(transform, rows)
        raise error
    return nodes


_OPSETS = (helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET))


def _check(model: bytes, arrays: Arrays, expected: NDArray[Any], subject: str) -> None:
    """Raise PreprocessingError unless a model computes what is expected, [rows, features]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_FATAL
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (features,) = session.run(None, dict(arrays))
    except Exception as error:  # onnxruntime's exceptions have no common type of their own
        reason = one_line(error)
        raise PreprocessingError(f"{subject}: its nodes do not run: {reason}. {WHAT_TO_DO}") from error
    if features.shape != expected.shape:
        raise PreprocessingError(
            f"{subject}: its nodes give {list(features.shape)}, the fitted step {list(expected.shape)}. {WHAT_TO_DO}"
        )
    if not features.size:
        return
    scale = np.abs(expected).max(axis=0)
    worst = np.abs(features.astype(np.float64) - expected.astype(np.float64)).max(axis=0)
    # A NaN compares false with any limit, and so fails.
    wrong = np.flatnonzero(~(worst <= _LIMIT * scale))
    if len(wrong):
        raise PreprocessingError(
            f"{subject}: its nodes give something else than the fitted step: feature {wrong[0]} is off by "
            f"{worst[wrong[0]]:.1e} of {scale[wrong[0]]:.1e}. {WHAT_TO_DO}"
        )


def _check_steps(transform: TabularTransform, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise PreprocessingError for the first step that alone has no nodes, or nodes that differ from it."""
    watched = copy.deepcopy(transform.transformer)
    seen: dict[str, list[tuple[Any, Any]]] = {}
    steps = dict(_steps(transform.transformer, ()))
    for name, step in _steps(watched, ()):
        _watch(step, seen.setdefault(name, []))
    for row in rows:
        TabularTransform(transformer=watched, names=transform.names, origin=transform.origin).transform([row])
    for name, step in steps.items():
        subject = f"'{transform.origin}', step {name}{type(step).__name__}"
        if not seen[name]:
            continue
        arrays = _to_arrays([inputs for inputs, _ in seen[name]])
        types = [(key, _kind(array), array.shape[1]) for key, array in arrays.items()]
        model = to_model(step, types, subject=subject)
        expected = np.concatenate([_dense(features) for _, features in seen[name]])
        (output,) = model.graph.output
        model.graph.node.append(helper.make_node("Cast", [output.name], ["features"], to=TensorProto.FLOAT))
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, None))
        if expected.dtype.kind not in "OUS":
            _check(model.SerializeToString(), arrays, expected.astype(np.float32), subject)


def _steps(part: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Give the innermost steps that a transform runs, each with its path in words."""
    if hasattr(part, "transformers_"):
        inner = [(name, step) for name, step, _ in part.transformers_]
    elif hasattr(part, "steps"):
        inner = part.steps
    elif hasattr(part, "transformer_list"):
        inner = part.transformer_list
    else:
        yield "".join(f"'{name}' > " for name in path), part
        return
    for name, step in inner:
        if step is not None and not isinstance(step, str):
            yield from _steps(step, (*path, name))


def _watch(step: Any, seen: list[tuple[Any, Any]]) -> None:
    """Make a step keep its inputs and its outputs."""
    original = step.transform

    def transform(values: Any, *arguments: Any, **options: Any) -> Any:
        features = original(values, *arguments, **options)
        seen.append((values, features))
        return features

    step.transform = transform


def _to_arrays(inputs: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Return the inputs of a step, one row each, as one array, or as one per column where their types differ."""
    tables = [table.to_numpy() if hasattr(table, "to_numpy") else _dense(table) for table in inputs]
    values = np.concatenate(tables)
    columns = [_column(values[:, position]) for position in range(values.shape[1])]
    if len({column.dtype for column in columns}) == 1:
        return {"inputs": np.stack(columns, axis=1)}
    return {f"input_{position}": column[:, np.newaxis] for position, column in enumerate(columns)}


def _column(values: NDArray[Any]) -> NDArray[Any]:
    if any(isinstance(value, str) for value in values):
        return np.array([value if isinstance(value, str) else "" for value in values], dtype=object)
    numbers = values.astype(np.float64)
    return values.astype(np.int64) if values.dtype.kind in "iub" else numbers


def _kind(array: NDArray[Any]) -> str:
    return "string" if array.dtype == object else str(array.dtype)


def _dense(features: Any) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(features.toarray() if hasattr(features, "toarray") else features)

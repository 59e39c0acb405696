"""A transform's nodes, run beside the fitted transform; where they differ, or there are none, the step that it is."""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporter.conversion.node_builder import NodeBuilder
from exporter.conversion.to_onnx import OPSET
from exporter.errors import PreprocessingError
from exporter.inputs.tabular.estimator import ColumnStatistics, TabularTransform
from exporter.inputs.tabular.to_onnx import ML_OPSET, WHAT_TO_DO, column_info, table_nodes, to_model
from runtime.manifest import Column

# Of the largest value of a feature: a few roundings of float32.
_LIMIT = 1e-6

_LOG_FATAL = 4
_IR_VERSION = 10

Arrays = Mapping[str, NDArray[Any]]


def proven_nodes(
    reading: TabularTransform,
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    arrays: Sequence[Arrays],
    *,
    features: str,
) -> NodeBuilder:
    """Return the transform's nodes, from one input a column to ``features``, having run them on ``rows``.

    ``arrays`` are the rows as the graph takes them. Raises PreprocessingError that names the step which has no nodes,
    or whose nodes give something else than the fitted transform.
    """
    expected = np.concatenate([reading.transform([row]) for row in rows])
    try:
        nodes = table_nodes(reading, columns, features=features)
        model = helper.make_model(
            helper.make_graph(
                nodes.nodes,
                "table",
                [column_info(column) for column in columns],
                [helper.make_tensor_value_info(features, TensorProto.FLOAT, ["batch", expected.shape[1]])],
                list(nodes.constants.values()),
            ),
            ir_version=_IR_VERSION,
            opset_imports=_OPSETS,
        )
        whole = {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]}
        _check(model.SerializeToString(), whole, expected, f"'{reading.origin}'")
    except PreprocessingError as error:
        if not isinstance(reading.transformer, ColumnStatistics):
            _check_steps(reading, rows)
        raise error
    return nodes


_OPSETS = (helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET))


def _check(model: bytes, arrays: Arrays, expected: NDArray[Any], subject: str) -> None:
    """Raise PreprocessingError unless a model gives what is expected, [rows, features]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, dict(arrays))
    except Exception as error:  # onnxruntime's exceptions have no common type of their own
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise PreprocessingError(f"{subject}: its nodes do not run: {reason}. {WHAT_TO_DO}") from error
    if found.shape != expected.shape:
        raise PreprocessingError(
            f"{subject}: its nodes give {list(found.shape)}, the fitted step {list(expected.shape)}. {WHAT_TO_DO}"
        )
    if not found.size:
        return
    scale = np.abs(expected).max(axis=0)
    worst = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max(axis=0)
    # A NaN compares false with any limit, and so fails.
    wrong = np.flatnonzero(~(worst <= _LIMIT * scale))
    if len(wrong):
        raise PreprocessingError(
            f"{subject}: its nodes give something else than the fitted step: feature {wrong[0]} is off by "
            f"{worst[wrong[0]]:.1e} of {scale[wrong[0]]:.1e}. {WHAT_TO_DO}"
        )


def _check_steps(reading: TabularTransform, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise PreprocessingError for the first step that alone has no nodes, or other ones than it should."""
    watched = copy.deepcopy(reading.transformer)
    seen: dict[str, list[tuple[Any, Any]]] = {}
    steps = dict(_steps(reading.transformer, ()))
    for name, step in _steps(watched, ()):
        _watch(step, seen.setdefault(name, []))
    for row in rows:
        TabularTransform(transformer=watched, names=reading.names, origin=reading.origin).transform([row])
    for name, step in steps.items():
        subject = f"'{reading.origin}', step {name}{type(step).__name__}"
        if not seen[name]:
            continue
        arrays = _to_arrays([given for given, _ in seen[name]])
        types = [(key, _kind(array), array.shape[1]) for key, array in arrays.items()]
        model = to_model(step, types, subject=subject)
        expected = np.concatenate([_dense(found) for _, found in seen[name]])
        (output,) = model.graph.output
        model.graph.node.append(helper.make_node("Cast", [output.name], ["found"], to=TensorProto.FLOAT))
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("found", TensorProto.FLOAT, None))
        if expected.dtype.kind not in "OUS":
            _check(model.SerializeToString(), arrays, expected.astype(np.float32), subject)


def _steps(part: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Give the innermost steps that a transform runs, each with the way to it in words."""
    if hasattr(part, "transformers_"):
        inner = [(name, one) for name, one, _ in part.transformers_]
    elif hasattr(part, "steps"):
        inner = part.steps
    elif hasattr(part, "transformer_list"):
        inner = part.transformer_list
    else:
        yield "".join(f"'{name}' > " for name in path), part
        return
    for name, one in inner:
        if one is not None and not isinstance(one, str):
            yield from _steps(one, (*path, name))


def _watch(step: Any, seen: list[tuple[Any, Any]]) -> None:
    """Make a step keep what it is given and what it gives."""
    original = step.transform

    def transform(values: Any, *arguments: Any, **options: Any) -> Any:
        found = original(values, *arguments, **options)
        seen.append((values, found))
        return found

    step.transform = transform


def _to_arrays(given: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Return what a step was given, a row at a time, as one array, or as one a column where their types differ."""
    tables = [one.to_numpy() if hasattr(one, "to_numpy") else _dense(one) for one in given]
    table = np.concatenate(tables)
    columns = [_column(table[:, place]) for place in range(table.shape[1])]
    if len({column.dtype for column in columns}) == 1:
        return {"given": np.stack(columns, axis=1)}
    return {f"given_{place}": column[:, np.newaxis] for place, column in enumerate(columns)}


def _column(values: NDArray[Any]) -> NDArray[Any]:
    if any(isinstance(value, str) for value in values):
        return np.array([value if isinstance(value, str) else "" for value in values], dtype=object)
    numbers = values.astype(np.float64)
    return values.astype(np.int64) if values.dtype.kind in "iub" else numbers


def _kind(array: NDArray[Any]) -> str:
    return "string" if array.dtype == object else str(array.dtype)


def _dense(found: Any) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found)

"""Model of Triton's Python backend: every instance is a process that returns rows.

Inputs are those of the Open Inference Protocol, images encoded; ``row_name``, optional, is an input's name in its row.
The output ``row`` is the JSON of 'truecopy predict --format jsonl', with an ``error`` where an input has no result.
A request's parameters ``top_k`` and ``threshold`` are those of 'predict'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.artifact.open import open_artifact
from runtime.deploy.artifact_copies import place_artifact
from runtime.errors import ArtifactError, InputError
from runtime.manifest import FULL_PRECISION
from runtime.model import Model, load
from runtime.results import Result, check_options
from runtime.server.payloads import input_specs, rows_of
from runtime.verify import check_answers

# Names in the repository, next to model.py, and in config.pbtxt.
ARTIFACT_FOLDER = "artifact"
DIGEST_PARAMETER = "sha256"
NAME_TENSOR = "row_name"
ROW_TENSOR = "row"
PRECISION_PARAMETER = "precision"


class _RequestOptions(msgspec.Struct, frozen=True):
    """The parameters of a request; others are ignored."""

    top_k: int = 5
    threshold: float | None = None


_DEFAULTS = _RequestOptions()


@dataclass(frozen=True, kw_only=True)
class _TritonRequest:
    """One request: its inputs with their names in the rows, or the error of the whole request."""

    named: Sequence[tuple[str, Any]] = ()
    options: _RequestOptions = _DEFAULTS
    error: str = ""


class TritonPythonModel:
    """The class that Triton's Python backend calls, with one instance per process."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the artifact next to model.py; raises ArtifactError for another version or other golden outputs.

        ``args`` are Triton's: the model's folder, version and configuration.
        """
        self._triton: Any = import_module("triton_python_backend_utils")
        parameters = msgspec.json.decode(args["model_config"])["parameters"]
        if DIGEST_PARAMETER not in parameters:
            raise ArtifactError(
                f"config.pbtxt: parameter '{DIGEST_PARAMETER}' is missing. Write the repository again with: "
                "truecopy deploy triton"
            )
        folder = place_artifact(
            str(Path(args["model_repository"]) / args["model_version"] / ARTIFACT_FOLDER),
            sha256=parameters[DIGEST_PARAMETER]["string_value"],
        )
        self._name = args["model_name"]
        precision = parameters.get(PRECISION_PARAMETER, {}).get("string_value", FULL_PRECISION)
        self._model: Model = load(folder, precision=precision, plan="throughput")
        check_answers(open_artifact(folder), self._model)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Return one response per request; requests that Triton passes together run together."""
        parsed = [self._parse(request) for request in requests]
        rows: list[list[bytes]] = [[] for _ in parsed]
        for options in dict.fromkeys(request.options for request in parsed):
            numbers = [number for number, request in enumerate(parsed) if request.options == options]
            named = [(number, source) for number in numbers for source in parsed[number].named]
            results = self._model.predict_each(
                (source for _, source in named), top_k=options.top_k, threshold=options.threshold
            )
            for (number, _), result in zip(named, results, strict=True):
                rows[number].append(_to_json(result))
        return [self._response(request, row) for request, row in zip(parsed, rows, strict=True)]

    def finalize(self) -> None:
        """End the model's threads."""
        self._model.close()

    def _parse(self, request: Any) -> _TritonRequest:
        try:
            options = msgspec.convert(msgspec.json.decode(request.parameters() or "{}"), _RequestOptions, strict=False)
            check_options(options.top_k, options.threshold, self._model.precision)
            names = self._tensor(request, NAME_TENSOR)
            inputs = [spec.name for spec in input_specs(self._model.manifest)]
            arrays = {name: array for name in inputs if (array := self._tensor(request, name)) is not None}
            sources = rows_of(arrays, self._model.manifest, self._name)
        except msgspec.ValidationError as error:
            return _TritonRequest(error=f"parameters: {error}. Pass 'top_k' as an integer and 'threshold' as a number.")
        except InputError as error:
            return _TritonRequest(error=str(error))
        # Inputs without a name get the same names as in the server.
        row_names = [f"#{row}" for row in range(len(sources))]
        if names is not None:
            row_names = [_text(name) for name in names.flat]
        return _TritonRequest(named=list(zip(row_names, sources, strict=True)), options=options)

    def _tensor(self, request: Any, name: str) -> NDArray[Any] | None:
        tensor = self._triton.get_input_tensor_by_name(request, name)
        return None if tensor is None else tensor.as_numpy()

    def _response(self, request: _TritonRequest, rows: list[bytes]) -> Any:
        if request.error:
            error = self._triton.TritonError(request.error, self._triton.TritonError.INVALID_ARG)
            return self._triton.InferenceResponse(output_tensors=[], error=error)
        column = np.array(rows, dtype=np.object_).reshape(-1, 1)
        return self._triton.InferenceResponse(output_tensors=[self._triton.Tensor(ROW_TENSOR, column)])


def _to_json(result: Result) -> bytes:
    return msgspec.json.encode(result.to_dict())


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")

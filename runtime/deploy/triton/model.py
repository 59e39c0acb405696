"""An artifact in Triton's Python backend: every instance is a process with the model, and answers in rows.

Inputs are the Open Inference Protocol's, images encoded; ``row_name``, where it is given, is what their rows call them.
The output ``row`` is the JSON of 'truecopy predict --format jsonl', an ``error`` in it where an input has no answer. A
request's parameters ``top_k`` and ``threshold`` are those of 'predict'.
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
from runtime.model import Model, check_options, load
from runtime.results import Result
from runtime.server.payloads import input_specs, rows_of
from runtime.verify import check_answers

# In the repository, beside model.py, and in config.pbtxt.
ARTIFACT_FOLDER = "artifact"
DIGEST_PARAMETER = "sha256"
NAME_TENSOR = "row_name"
ROW_TENSOR = "row"


class _RequestOptions(msgspec.Struct, frozen=True):
    """The parameters of a request; others are not ours to judge."""

    top_k: int = 5
    threshold: float | None = None


_DEFAULTS = _RequestOptions()


@dataclass(frozen=True, kw_only=True)
class _TritonRequest:
    """One request: its inputs with the names that rows have for them, or what is wrong with all of it."""

    named: Sequence[tuple[str, Any]] = ()
    options: _RequestOptions = _DEFAULTS
    error: str = ""


class TritonPythonModel:
    """What Triton's Python backend calls, one instance a process."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the artifact beside model.py; raises ArtifactError unless it is the one meant, and answers as exported.

        ``args`` are Triton's: the model's folder, version and configuration.
        """
        self._triton: Any = import_module("triton_python_backend_utils")
        parameters = msgspec.json.decode(args["model_config"])["parameters"]
        if DIGEST_PARAMETER not in parameters:
            raise ArtifactError(
                f"config.pbtxt: no parameter '{DIGEST_PARAMETER}': expected the artifact's, got none. Write the "
                "repository again with: truecopy deploy triton"
            )
        folder = place_artifact(
            str(Path(args["model_repository"]) / args["model_version"] / ARTIFACT_FOLDER),
            sha256=parameters[DIGEST_PARAMETER]["string_value"],
        )
        self._name = args["model_name"]
        self._model: Model = load(folder, plan="throughput")
        check_answers(open_artifact(folder), self._model)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Return one response a request; those that Triton brings together are worked on together."""
        questions = [self._question(request) for request in requests]
        rows: list[list[bytes]] = [[] for _ in questions]
        for options in dict.fromkeys(question.options for question in questions):
            asked = [number for number, question in enumerate(questions) if question.options == options]
            named = [(number, one) for number in asked for one in questions[number].named]
            results = self._model.predict_each(
                (one for _, one in named), top_k=options.top_k, threshold=options.threshold
            )
            for (number, _), result in zip(named, results, strict=True):
                rows[number].append(_to_json(result))
        return [self._response(question, answer) for question, answer in zip(questions, rows, strict=True)]

    def finalize(self) -> None:
        """End the model's threads."""
        self._model.close()

    def _question(self, request: Any) -> _TritonRequest:
        try:
            options = msgspec.convert(msgspec.json.decode(request.parameters() or "{}"), _RequestOptions, strict=False)
            check_options(options.top_k, options.threshold)
            names = self._tensor(request, NAME_TENSOR)
            wanted = [spec.name for spec in input_specs(self._model.manifest)]
            arrays = {name: array for name in wanted if (array := self._tensor(request, name)) is not None}
            sources = rows_of(arrays, self._model.manifest, self._name)
        except msgspec.ValidationError as error:
            return _TritonRequest(error=f"parameters: {error}. Correct them.")
        except InputError as error:
            return _TritonRequest(error=str(error))
        # An image without a name is called what the server calls one.
        called = [f"#{row}" for row in range(len(sources))] if names is None else [_text(one) for one in names.flat]
        return _TritonRequest(named=list(zip(called, sources, strict=True)), options=options)

    def _tensor(self, request: Any, name: str) -> NDArray[Any] | None:
        tensor = self._triton.get_input_tensor_by_name(request, name)
        return None if tensor is None else tensor.as_numpy()

    def _response(self, question: _TritonRequest, rows: list[bytes]) -> Any:
        if question.error:
            error = self._triton.TritonError(question.error, self._triton.TritonError.INVALID_ARG)
            return self._triton.InferenceResponse(output_tensors=[], error=error)
        column = np.array(rows, dtype=np.object_).reshape(-1, 1)
        return self._triton.InferenceResponse(output_tensors=[self._triton.Tensor(ROW_TENSOR, column)])


def _to_json(result: Result) -> bytes:
    return msgspec.json.encode(result.to_dict())


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")

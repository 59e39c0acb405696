"""HTTP responses: encoding, compression, errors."""

import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from runtime.errors import TruecopyError
from runtime.results import Result
from runtime.server.errors import QueueFullError, StoppingError, TokenError, find_status, message_of
from runtime.server.http.requests import HEADER_LENGTH
from runtime.server.http.statuses import STATUSES
from runtime.server.open_inference.json_format import response_to_body
from runtime.server.open_inference.requests import InferResponse
from runtime.server.service import Predictions, size_bytes

# A smaller body saves no packet when it is compressed.
_COMPRESS_FROM_BYTES = 1024

_JSON = "application/json"

_encoder = msgspec.json.Encoder()


def encode_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return ``value`` as a JSON response."""
    return Response(_encoder.encode(value), status, {"content-type": _JSON, **(headers or {})})


def encode_error(error: TruecopyError) -> Response:
    """Return the response for an error: its status, its message, and the headers that go with it."""
    headers = {}
    if isinstance(error, QueueFullError):
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, StoppingError):
        headers["retry-after"] = "1"
    if isinstance(error, TokenError):
        headers["www-authenticate"] = "Bearer"
    return encode_json({"error": message_of(error)}, find_status(error, STATUSES), headers)


def encode_predictions(predictions: Predictions, accept_encoding: str) -> Response:
    """Return the response of ``POST /predict/{model}``, compressed where the client accepts it."""
    rows = [result.to_dict() for result in predictions.results]
    body = _encoder.encode({"model": predictions.model, "predictions": rows})
    headers = {"content-type": _JSON, "server-timing": _server_timing(predictions.seconds)}
    return _compress(body, headers, accept_encoding)


def encode_infer_response(response: InferResponse, seconds: Mapping[str, float], accept_encoding: str) -> Response:
    """Return the response of the Open Inference Protocol, compressed where the client accepts it."""
    body, header_length = response_to_body(response)
    headers = {"content-type": _JSON, "server-timing": _server_timing(seconds)}
    if header_length is not None:
        headers |= {"content-type": "application/octet-stream", HEADER_LENGTH.lower(): str(header_length)}
    return _compress(body, headers, accept_encoding)


def size_of_results(results: list[Result]) -> int:
    """Return about how many bytes of arrays the results hold; those of classes and numbers hold none."""
    return sum(size_bytes(getattr(result, name)) for result in results for name in _array_fields(type(result)))


@cache
def _array_fields(result_type: type[Result]) -> tuple[str, ...]:
    """Return the fields of a type of results that hold arrays, or whatever a network returned."""
    types = {field.name: field.type for field in msgspec.structs.fields(result_type)}
    # Since NumPy 2.5, NDArray is a type of its own to typing, and no longer another name of np.ndarray.
    return tuple(name for name, kind in types.items() if kind is Any or get_origin(kind) in (np.ndarray, NDArray))


def _server_timing(seconds: Mapping[str, float]) -> str:
    """Return the stages for the header Server-Timing, in milliseconds."""
    return ", ".join(f"{stage};dur={value * 1000:.2f}" for stage, value in seconds.items())


def _compress(body: bytes, headers: dict[str, str], accept_encoding: str) -> Response:
    """Return a response, compressed where the client accepts it and the body is large enough."""
    encoding = _choose_encoding(accept_encoding) if len(body) >= _COMPRESS_FROM_BYTES else ""
    if not encoding:
        return Response(body, headers=headers)
    compressor = zlib.compressobj(1, wbits=31 if encoding == "gzip" else 15)
    compressed = compressor.compress(body) + compressor.flush()
    return Response(compressed, headers=headers | {"content-encoding": encoding, "vary": "accept-encoding"})


def _choose_encoding(accept_encoding: str) -> str:
    """Return the encoding for a client's Accept-Encoding; empty for none."""
    accepted = {
        name.strip()
        for name, _, quality in (part.partition(";") for part in accept_encoding.split(","))
        if quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    }
    return next((encoding for encoding in ("gzip", "deflate") if encoding in accepted), "")

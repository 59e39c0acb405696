"""HTTP requests, parsed into the inputs and options that they carry."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from runtime.errors import InputError
from runtime.manifest import Manifest
from runtime.server.context import RequestContext
from runtime.server.jobs import AcceptedInput, InputSource, RejectedInput
from runtime.server.numbers import whole_number
from runtime.server.open_inference.json_format import BodyFormat, request_from_body
from runtime.server.open_inference.requests import InferRequest
from runtime.server.payloads import encoded_inputs, input_specs, source_from_body, source_from_json, source_from_part
from runtime.server.served_model import ServedModel
from runtime.server.service import Service

HEADER_LENGTH = "Inference-Header-Content-Length"

# The name of an input that is the whole body, in messages and in its result.
_BODY = "body"

_DEFAULT_TOP_K = 5
_OPTIONS = ("top_k", "threshold")
_MOST_FIELDS = 16


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """The inputs and options of ``POST /predict/{model}``; ``is_list`` is false where the body is a single input."""

    sources: list[InputSource]
    is_list: bool
    top_k: int
    threshold: float | None


@dataclass(frozen=True, kw_only=True)
class _ParsedBody:
    """The inputs of a body, and the options that stand in it, not yet parsed."""

    sources: list[InputSource]
    is_list: bool
    options: dict[str, Any] = field(default_factory=dict)


class _JsonBody(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of ``POST /predict/{model}``: ``input`` or ``inputs``, each in the JSON form of the model's kind."""

    input: Any = msgspec.UNSET
    inputs: list[Any] | msgspec.UnsetType = msgspec.UNSET
    top_k: int | msgspec.UnsetType = msgspec.UNSET
    threshold: float | msgspec.UnsetType = msgspec.UNSET


class _FormParser(MultiPartParser):
    """Starlette's parser, which would spool large parts to a disk that may be read-only."""

    spool_max_size = 2**40


_json_decoder = msgspec.json.Decoder(_JsonBody)


def apply_timeout(request: Request, context: RequestContext) -> None:
    """Apply the header X-Request-Timeout, in seconds; raises InputError unless it is a number above 0."""
    header = request.headers.get("x-request-timeout")
    if header is not None:
        seconds = _number(header, "X-Request-Timeout")
        if not 0 < seconds < float("inf"):
            raise InputError(f"X-Request-Timeout: expected seconds above 0, got {header[:40]!r}. Change the header.")
        context.shorten(seconds)


async def parse_predict(request: Request, body: bytes, manifest: Manifest, service: Service) -> PredictRequest:
    """Return the inputs and options of a prediction; options in the body override those in the query.

    An input of the wrong kind is a RejectedInput. Raises InputError for a body or an option that cannot be read,
    MediaTypeError for a content type that the model's kind does not have.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        parsed = await service.convert(len(body), lambda: _parse_json(body, manifest))
    elif media_type == "multipart/form-data":
        parsed = await _parse_form(request, body, manifest, most_files=service.limits.queue)
    else:
        value = source_from_body(body, media_type, manifest)
        parsed = _ParsedBody(sources=[AcceptedInput(name=_BODY, subject=f"'{_BODY}'", value=value)], is_list=False)
    if not parsed.sources:
        raise InputError("body: no inputs. Send at least one.")
    query = request.query_params if request.scope["query_string"] else {}
    options: dict[str, Any] = {name: query[name] for name in _OPTIONS if name in query} | parsed.options
    top_k = options.get("top_k", _DEFAULT_TOP_K)
    return PredictRequest(
        sources=parsed.sources,
        is_list=parsed.is_list,
        top_k=whole_number(str(top_k), "top_k", from_text=True),
        threshold=_number(options["threshold"], "threshold") if "threshold" in options else None,
    )


async def parse_infer(request: Request, body: bytes, model: ServedModel, service: Service) -> InferRequest:
    """Return the request of the Open Inference Protocol in a body; raises InputError for anything else."""
    header = request.headers.get(HEADER_LENGTH)
    header_length = None if header is None else whole_number(header, HEADER_LENGTH, from_text=True)
    inputs, encoded = input_specs(model.manifest), encoded_inputs(model.manifest)
    if header_length == 0 and (len(inputs) != 1 or inputs[0].name not in encoded):
        raise InputError(
            f"{HEADER_LENGTH}: 0 is for models with one encoded input, which '{model.name}' does not have. "
            "Send the protocol's JSON."
        )
    body_format = BodyFormat(header_length=header_length, base64_inputs=encoded, raw_input=inputs[0].name)
    version = request.path_params.get("version", "")
    return await service.convert(
        len(body) if header_length is None else header_length,
        lambda: request_from_body(body, body_format, model=model.name, version=version),
    )


def _parse_json(body: bytes, manifest: Manifest) -> _ParsedBody:
    try:
        parsed = _json_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(
            f'body: not a prediction\'s JSON: {str(error).rstrip(".")}. Send {{"input": ...}} or {{"inputs": [...]}}.'
        ) from None
    if (parsed.input is msgspec.UNSET) == (parsed.inputs is msgspec.UNSET):
        raise InputError("body: expected either 'input' or 'inputs', got both or neither. Send one of them.")
    is_list = not isinstance(parsed.inputs, msgspec.UnsetType)
    values = parsed.inputs if not isinstance(parsed.inputs, msgspec.UnsetType) else [parsed.input]
    options = {"top_k": parsed.top_k, "threshold": parsed.threshold}
    return _ParsedBody(
        sources=[_read_source(source_from_json, value, manifest, f"#{index}") for index, value in enumerate(values)],
        is_list=is_list,
        options={name: value for name, value in options.items() if value is not msgspec.UNSET},
    )


async def _parse_form(request: Request, body: bytes, manifest: Manifest, *, most_files: int) -> _ParsedBody:
    """Return the files of a multipart body as inputs, and its options; all of it is kept in memory."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        parser = _FormParser(
            request.headers,
            stream(),  # type: ignore[arg-type]  # any asynchronous iterator
            max_files=most_files + 1,
            max_fields=_MOST_FIELDS,
            max_part_size=len(body),
        )
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", str(error))
        raise InputError(f"body: not multipart/form-data: {reason}. Send it as a browser's form does.") from None
    sources = []
    options: dict[str, Any] = {}
    for name, part in form.multi_items():
        if isinstance(part, UploadFile):
            sources.append(_read_source(source_from_part, await part.read(), manifest, part.filename or name))
        elif name in _OPTIONS:
            options[name] = part
    await form.close()
    return _ParsedBody(sources=sources, is_list=len(sources) > 1, options=options)


def _read_source(read: Callable[[Any, Manifest, str], Any], value: Any, manifest: Manifest, name: str) -> InputSource:
    """Return the input that ``read`` makes of a value, or its error, which costs no other input."""
    subject = f"'{name}'"
    try:
        return AcceptedInput(name=name, subject=subject, value=read(value, manifest, subject))
    except InputError as error:
        return RejectedInput(name=name, subject=subject, error=error)


def _number(value: Any, subject: str) -> float:
    """Return the number in a query, header, field or JSON value; raises InputError for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{subject}: expected a number, got {str(value)[:40]!r}. Send a decimal number.") from None

"""HTTP requests, parsed into the inputs and options that they carry."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request

from runtime.errors import InputError
from runtime.inputs.json_size import json_reason
from runtime.manifest import Manifest
from runtime.server.admission import BodyReservation
from runtime.server.context import RequestContext
from runtime.server.decoding import decode, detached
from runtime.server.errors import bounded
from runtime.server.http.charsets import to_utf8
from runtime.server.http.forms import FormPart, count_parts, read_form
from runtime.server.http.headers import header
from runtime.server.jobs import AcceptedInput, InputSource, RejectedInput
from runtime.server.numbers import whole_number
from runtime.server.open_inference.json_format import BodyFormat, request_from_body
from runtime.server.open_inference.requests import InferRequest
from runtime.server.payloads import (
    encoded_inputs,
    has_json_files,
    input_specs,
    is_json,
    parts_of,
    source_from_body,
    source_from_json,
    source_from_part,
    source_from_parts,
)
from runtime.server.served_model import ServedModel
from runtime.server.service import Service

HEADER_LENGTH = "Inference-Header-Content-Length"

# The name of an input that is the whole body, in messages and in its result.
_BODY = "body"

_DEFAULT_TOP_K = 5
_FORM = "multipart/form-data"
_OPTIONS = ("top_k", "threshold")
_MOST_FIELDS = 16

# What a cell of a table takes as a text in a dictionary, besides its characters.
_CELL_BYTES = 150

# The most characters of an input's name, which its result repeats.
_NAME_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """The inputs and options of a prediction; ``is_list`` is false where the body is a single input."""

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
    """The JSON of a prediction: ``input`` or ``inputs``, each in the JSON form of the model's kind.

    ``instances`` are the inputs as KServe's and TensorFlow Serving's first protocol has them, with their
    ``signature_name``, which says nothing here.
    """

    input: Any = msgspec.UNSET
    inputs: list[Any] | msgspec.UnsetType = msgspec.UNSET
    instances: list[Any] | msgspec.UnsetType = msgspec.UNSET
    signature_name: str | msgspec.UnsetType = msgspec.UNSET
    top_k: int | msgspec.UnsetType = msgspec.UNSET
    threshold: float | msgspec.UnsetType = msgspec.UNSET


_json_decoder = msgspec.json.Decoder(_JsonBody)


def apply_timeout(request: Request, context: RequestContext) -> None:
    """Apply the header X-Request-Timeout, in seconds; raises InputError unless it is a number above 0."""
    timeout = header(request.scope, b"x-request-timeout")
    if timeout is not None:
        seconds = _number(timeout, "X-Request-Timeout")
        if not 0 < seconds < float("inf"):
            raise InputError(f"X-Request-Timeout: expected seconds above 0, got {timeout[:40]!r}. Change the header.")
        context.shorten(seconds)


async def parse_predict(
    request: Request, body: bytes, model: ServedModel, service: Service, reservation: BodyReservation
) -> PredictRequest:
    """Return the inputs and options of a prediction; options in the body override those in the query.

    An input of the wrong kind is a RejectedInput. Raises InputError for a body or an option that cannot be read,
    TooLargeError for more inputs than a request may have, MediaTypeError for a content type that the model's kind does
    not have.
    """
    content_type = header(request.scope, b"content-type") or ""
    media_type = content_type.partition(";")[0].strip().lower()
    is_form = media_type == _FORM
    is_table = media_type in model.payload.table_types
    has_values = not is_form and is_json(body, media_type, model.manifest)

    def parse() -> PredictRequest:
        if has_values:
            parsed = _parse_json(to_utf8(body, content_type, reservation), model, service, reservation)
        elif is_table:
            parsed = _parse_table(body, content_type, model, service, reservation)
        elif is_form:
            parsed = _parse_form(body, content_type, model, service, reservation)
        else:
            text = to_utf8(body, content_type, reservation) if model.payload.decodes_body else body
            value = source_from_body(text, media_type, model.payload)
            parsed = _ParsedBody(sources=[AcceptedInput(name=_BODY, subject=f"'{_BODY}'", value=value)], is_list=False)
        query = dict(request.query_params) if request.scope["query_string"] else {}
        _check_options(query)
        return _with_options(parsed, query | parsed.options)

    # A body that is an input as it is, such as a photo, takes no time: another thread would only cost some.
    takes_time = is_form or is_table or has_values or model.payload.decodes_body
    return await service.decode(len(body) if takes_time else 0, parse, "body")


async def parse_infer(
    request: Request, body: bytes, model: ServedModel, service: Service, reservation: BodyReservation
) -> InferRequest:
    """Return the request of the Open Inference Protocol in a body; raises InputError for anything else."""
    length = header(request.scope, HEADER_LENGTH.lower().encode())
    header_length = None if length is None else whole_number(length, HEADER_LENGTH, from_text=True)
    inputs, encoded = input_specs(model.manifest), encoded_inputs(model.manifest)
    if header_length == 0 and (len(inputs) != 1 or inputs[0].name not in encoded):
        raise InputError(
            f"{HEADER_LENGTH}: 0 is for models with one encoded input, which '{model.name}' does not have. "
            "Send the protocol's JSON."
        )
    body_format = BodyFormat(header_length=header_length, base64_inputs=encoded, raw_input=inputs[0].name)
    version = request.path_params.get("version", "")
    claims = service.tensor_claims(model, reservation)
    content_type = header(request.scope, b"content-type") or ""
    return await service.decode(
        len(body) if header_length is None else header_length,
        lambda: request_from_body(
            body if header_length is not None else to_utf8(body, content_type, reservation),
            body_format,
            claims,
            model=model.name,
            version=version,
        ),
        "body",
    )


def _parse_json(body: bytes, model: ServedModel, service: Service, reservation: BodyReservation) -> _ParsedBody:
    if not body:
        raise InputError('body: empty: expected JSON such as {"input": ...}, got 0 bytes. Send it as the body.')
    reservation.extend_for_json(body)
    try:
        parsed = _json_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(
            f'body: not a prediction\'s JSON: {json_reason(error, body)}. Send {{"input": ...}} or {{"inputs": [...]}}.'
        ) from None
    fields = [field for field in (parsed.input, parsed.inputs, parsed.instances) if field is not msgspec.UNSET]
    if len(fields) != 1:
        raise InputError(
            "body: expected either 'input' or 'inputs' (or 'instances'), got both or neither. Send one of them."
        )
    is_list = parsed.input is msgspec.UNSET
    values = fields[0] if is_list else fields
    service.admission.check_inputs(len(values), model.inputs_per_job)
    options = {"top_k": parsed.top_k, "threshold": parsed.threshold}
    return _ParsedBody(
        sources=[
            _read_source(source_from_json, value, model.manifest, f"#{index}") for index, value in enumerate(values)
        ],
        is_list=is_list,
        options={name: value for name, value in options.items() if value is not msgspec.UNSET},
    )


def _parse_table(
    body: bytes, content_type: str, model: ServedModel, service: Service, reservation: BodyReservation
) -> _ParsedBody:
    """Return the rows of a table or an array as inputs, one each."""
    if content_type.strip().lower().startswith("text/"):
        body = to_utf8(body, content_type, reservation)
        lines = body.count(b"\n") + body.count(b"\r") - body.count(b"\r\n")  # a line may end with either, or both
        service.admission.check_inputs(lines - 1, model.inputs_per_job)
        reservation.extend(_CELL_BYTES * (lines + sum(map(body.count, (b",", b";", b"\t")))))
    else:
        reservation.extend(len(body))  # numbers of another byte order are copied
    rows = model.payload.from_table(body)
    if not len(rows):
        raise InputError("body: no rows: expected an array, or CSV whose first line names its columns. Send some.")
    service.admission.check_inputs(len(rows), model.inputs_per_job)
    sources: list[InputSource] = []
    for index, row in enumerate(rows):
        name, subject = f"#{index}", f"'#{index}'"
        if isinstance(row, InputError):
            sources.append(RejectedInput(name=name, subject=subject, error=detached(row)))
        else:
            sources.append(AcceptedInput(name=name, subject=subject, value=row))
    return _ParsedBody(sources=sources, is_list=True)


def _check_options(names: Iterable[str], *, alternative: str = "") -> None:
    """Raise InputError for an option of the query or of a form that there is not; ``alternative`` is also taken."""
    unknown = next((name for name in names if name not in _OPTIONS), None)
    if unknown is not None:
        raise InputError(
            f"'{bounded(unknown, _NAME_CHARACTERS)}': no such option: expected {' or '.join(_OPTIONS)}{alternative}. "
            "Correct it."
        )


def _with_options(parsed: _ParsedBody, options: Mapping[str, Any]) -> PredictRequest:
    if not parsed.sources:
        raise InputError("body: no inputs. Send at least one.")
    top_k = options.get("top_k", _DEFAULT_TOP_K)
    return PredictRequest(
        sources=parsed.sources,
        is_list=parsed.is_list,
        top_k=whole_number(top_k, "top_k", from_text=isinstance(top_k, str)),
        threshold=_number(options["threshold"], "threshold") if "threshold" in options else None,
    )


def _parse_form(
    body: bytes, content_type: str, model: ServedModel, service: Service, reservation: BodyReservation
) -> _ParsedBody:
    """Return the files of a multipart body as inputs, and its options; all of it is kept in memory."""
    service.admission.check_inputs(count_parts(body, content_type) - _MOST_FIELDS - 1, model.inputs_per_job)
    parts = read_form(body, content_type)
    of_input = parts_of(model.manifest)
    if any(part.name in of_input for part in parts):
        return _parse_parts(parts, model, reservation)
    names = {spec.name for spec in model.manifest.inputs}

    def is_input(part: FormPart) -> bool:
        return part.filename is not None or (part.name not in _OPTIONS and (part.is_file or part.name in names))

    files = [part for part in parts if is_input(part)]
    service.admission.check_inputs(len(files), model.inputs_per_job)
    if len(parts) - len(files) > _MOST_FIELDS:
        raise InputError(
            f"body: too many fields: expected at most {_MOST_FIELDS} beside the files, got {len(parts) - len(files)}. "
            "Omit some."
        )
    if has_json_files(model.manifest):
        for part in files:
            reservation.extend_for_json(part.data)
    options = {part.name: _to_option(part) for part in parts if not is_input(part)}
    _check_options(options, alternative=", or a file, which has a filename")
    return _ParsedBody(
        sources=[
            _read_source(source_from_part, part.data, model.manifest, part.filename or part.name) for part in files
        ],
        is_list=len(files) > 1,
        options=options,
    )


def _parse_parts(form: list[FormPart], model: ServedModel, reservation: BodyReservation) -> _ParsedBody:
    """Return the one input whose parts are the files and fields of a form, and the options beside them."""
    of_input = parts_of(model.manifest)
    own: dict[str, bytes] = {}
    for part in form:
        if part.filename is None and part.name in _OPTIONS and part.name not in of_input:
            continue
        if part.name in own:
            raise InputError(
                f"body: part '{bounded(part.name, _NAME_CHARACTERS)}' twice: expected one input per form. Send JSON "
                "for several."
            )
        if part.name in of_input and of_input[part.name].has_json_files:
            reservation.extend_for_json(part.data)
        own[part.name] = part.data
    options = {part.name: _to_option(part) for part in form if part.name not in own}
    return _ParsedBody(
        sources=[_read_source(source_from_parts, own, model.manifest, _BODY)], is_list=False, options=options
    )


def _to_option(part: FormPart) -> str:
    return part.data.decode("utf-8", "replace")


def _read_source(read: Callable[[Any, Manifest, str], Any], value: Any, manifest: Manifest, name: str) -> InputSource:
    """Return the input that ``read`` makes of a value, or its error, which costs no other input."""
    name = bounded(name, _NAME_CHARACTERS)
    subject = f"'{name}'"
    try:
        return AcceptedInput(name=name, subject=subject, value=decode(lambda: read(value, manifest, subject), subject))
    except InputError as error:
        return RejectedInput(name=name, subject=subject, error=detached(error))


def _number(value: Any, subject: str) -> float:
    """Return the number in a query, header, field or JSON value; raises InputError for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{subject}: expected a number, got {str(value)[:40]!r}. Send a decimal number.") from None

"""Protobuf messages on the wire: what one will take in memory, counted before it is made of its bytes."""

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from runtime.errors import InputError
from runtime.server.errors import TooLargeError

# The most fields of a message, those inside its fields included. A repeated field that is not packed has one per
# element; clients pack numbers, or send raw tensors.
_MOST_FIELDS = 65_536

# Memory of the numbers that are unpacked at once, under Python's lock: health checks wait for it.
_MOST_PACKED_BYTES = 32 * 1024 * 1024

# Memory of one field: a message inside another is the largest.
_FIELD_BYTES = 128

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_MOST_VARINT_BYTES = 10

# The number of a request's ID; messages are written in the order of their fields.
_ID = 3
_LONGEST_ID = 1024

_LONG = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64}
_PACKED = {*_LONG, FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_BOOL}


def check_message(data: bytes, descriptor: Any, reserve: Callable[[int], None]) -> None:
    """Reserve the memory that a message of this type takes besides its bytes.

    Raises TooLargeError for more fields than a message may have, InputError for bytes that are no message, and what
    ``reserve`` raises.
    """
    fields = packed_bytes = 0
    spans = [(0, len(data), descriptor)]
    while spans:
        start, end, message = spans.pop()
        for number, kind, inner_start, inner_end in _fields(data, start, end):
            fields += 1
            if fields > _MOST_FIELDS:
                raise TooLargeError(
                    f"message: too many fields: expected at most {_MOST_FIELDS}, got more. Send fewer inputs in one "
                    "request, or tensors in raw_input_contents."
                )
            field = message.fields_by_number.get(number)
            if field is None or kind != _BYTES:
                continue
            if field.message_type is not None:
                spans.append((inner_start, inner_end, field.message_type))
            elif field.type in _PACKED:  # one byte of the wire may be one number
                packed_bytes += (inner_end - inner_start) * (8 if field.type in _LONG else 4)
    if packed_bytes > _MOST_PACKED_BYTES:
        raise TooLargeError(
            f"message: too many packed numbers: expected at most {_MOST_PACKED_BYTES} bytes of memory for them, got "
            f"{packed_bytes} or more. Send tensors in raw_input_contents."
        )
    reserve(packed_bytes)
    reserve(fields * _FIELD_BYTES)


def read_id(data: bytes) -> str:
    """Return the ID of a ModelInferRequest that may be damaged, to name the response with its error; empty for none."""
    try:
        for number, kind, start, end in _fields(data, 0, len(data)):
            if number == _ID and kind == _BYTES:
                return data[start : min(end, start + _LONGEST_ID)].decode("utf-8", "replace")
            if number > _ID:
                break
    except InputError:
        pass
    return ""


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the number, the wire type and the span of each field between two positions."""
    while start < end:
        tag, start = _read_varint(data, start, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, after = _read_varint(data, start, end)
        elif kind == _BYTES:
            length, start = _read_varint(data, start, end)
            after = start + length
        elif kind in _FIXED_BYTES:
            after = start + _FIXED_BYTES[kind]
        else:
            raise _no_message()
        if after > end:
            raise _no_message()
        yield number, kind, start, after
        start = after


def _read_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    value = 0
    for offset in range(min(_MOST_VARINT_BYTES, end - start)):
        byte = data[start + offset]
        value |= (byte & 0x7F) << (7 * offset)
        if byte < 0x80:
            return value, start + offset + 1
    raise _no_message()


def _no_message() -> InputError:
    return InputError("message: not a protobuf message of this method. Send one of the service's own messages.")

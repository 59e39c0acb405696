"""Hostile requests, each of at most a given size, that once cost far more than their bytes."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.slow_photos import slow_photos

from runtime.server.grpc.messages import message_class

MIB = 2**20
PREDICT, INFER = "/predict/tiny", "/v2/models/tiny/infer"
JSON = {"Content-Type": "application/json"}
GZIP = {"Content-Encoding": "gzip"}
NPY = {"Content-Type": "application/x-npy"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One request: over HTTP to ``path``, or over gRPC where ``path`` is empty."""

    name: str
    body: bytes
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def http_attacks(size: int) -> Iterator[Attack]:
    """Yield requests whose bodies have about ``size`` bytes, those of gzip unpacked."""
    for name, value in {
        "numbers": b"0",
        "lists": b"[]",
        "objects": b"{}",
        "members": b'{"a":0}',
        "texts": b'"a"',
        "fractions": b"1.5",
    }.items():
        body = b'{"inputs":[' + filled(value, size) + b"]}"
        yield Attack(name=f"JSON inputs: {name}", path=PREDICT, headers=JSON, body=body)
        yield Attack(name=f"gzip of JSON inputs: {name}", path=PREDICT, headers=JSON | GZIP, body=packed(body))
        one = b'{"input":[' + filled(value, size) + b"]}"
        yield Attack(name=f"JSON input of {name}", path=PREDICT, headers=JSON, body=one)
    yield Attack(
        name="JSON of 4 MB of tiny inputs",
        path=PREDICT,
        headers=JSON,
        body=b'{"inputs":[' + filled(b"{}", min(size, 4 * MIB)) + b"]}",
    )
    wide = b'{"input":"' + b"a" * (size - 40) + '\U0001f600"}'.encode()
    yield Attack(name="JSON text, wide characters", path=PREDICT, headers=JSON, body=wide)
    for photo, data in slow_photos(size):
        yield Attack(name=f"photo: {photo}", path=PREDICT, body=data)
    for name, value in {"digits": b"9" * 3000, "100 digits": b"9" * 100}.items():
        body = b'{"input":[' + filled(value, size) + b"]}"
        yield Attack(name=f"JSON input of {name}", path=PREDICT, headers=JSON, body=body)
    encoded = b'{"input":"data:,' + b"%41" * (size // 3 - 10) + b'"}'
    yield Attack(name="JSON input of a percent-encoded URL", path=PREDICT, headers=JSON, body=encoded)
    for name, text in {"base64": b"QUFB", "padding": b"====", "blanks": b"    "}.items():
        body = b'{"input":"' + text * (size // 4 - 10) + b'"}'
        yield Attack(name=f"JSON input of {name}", path=PREDICT, headers=JSON, body=body)
    yield from _forms(size)
    yield from _gzips(size)
    yield from _infer_attacks(size)


def _forms(size: int) -> Iterator[Attack]:
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n\r\n'
    yield Attack(name="form of tiny files", path=PREDICT, headers=FORM, body=part * (size // len(part)) + b"--x--\r\n")
    yield Attack(
        name="form of boundaries", path=PREDICT, headers=FORM, body=part + b"\r\n--xy" * (size // 6) + b"\r\n--x--\r\n"
    )
    yield Attack(
        name="form with a long file name",
        path=PREDICT,
        headers=FORM,
        body=b'--x\r\nContent-Disposition: form-data; name="a"; filename="' + b"n" * size + b'"\r\n\r\nz\r\n--x--\r\n',
    )
    yield Attack(name="form of header lines", path=PREDICT, headers=FORM, body=b"--x\r\n" + b"a: b\r\n" * (size // 6))
    yield Attack(name="form of carriage returns", path=PREDICT, headers=FORM, body=part + b"\r\n--" * (size // 4))


def _gzips(size: int) -> Iterator[Attack]:
    empty = gzip.compress(b"", mtime=0)
    yield Attack(name="gzip of empty streams", path=PREDICT, headers=GZIP, body=empty * (size // len(empty)))
    short = gzip.compress(b"x" * 2000, mtime=0)
    yield Attack(name="gzip of short streams", path=PREDICT, headers=GZIP, body=short * (size // len(short)))
    yield Attack(name="gzip of a gigabyte", path=PREDICT, headers=GZIP, body=packed_zeros(2**30))
    yield Attack(name="gzip of all that is allowed", path=PREDICT, headers=GZIP, body=packed_zeros(size))


def _infer_attacks(size: int) -> Iterator[Attack]:
    rows = size // 3 - 100
    for name, shape in (("rows", [rows, 1, 1, 3]), ("columns", [1, rows, 1, 3]), ("one row", [1, 1, rows, 3])):
        yield _binary(f"infer: UINT8 {name}", shape, bytes(rows * 3))
    for name, shape in (("rows", (rows, 1, 1, 3)), ("columns", (1, 1, rows, 3))):
        yield Attack(name=f"npy of {name}", path=PREDICT, headers=NPY, body=_npy(np.zeros(shape, dtype=np.uint8)))
    count = size // 4 - 100
    yield _binary("infer: BYTES of empty elements", [count], bytes(4 * count), datatype="BYTES")
    yield _binary("infer: BYTES, one row", [1, count], bytes(4 * count), datatype="BYTES")
    for name, value in {"0": b"0", "255": b"255", "[1]": b"[1]", "text": b'"a"', "list": b"[]"}.items():
        values = filled(value, size - 200)
        amount = values.count(value)
        for datatype in ("UINT8", "BYTES"):
            yield _json(
                f"infer JSON: {datatype} of {name}", b"[1,1,%d,3]" % (amount // 3), b"[" + values + b"]", datatype
            )
    deep = b"[" * 900 + b"1" + b"]" * 900
    yield _json("infer JSON: deep lists", b"[1,1,1,3]", b"[" + filled(deep, size - 200) + b"]", "UINT8")
    yield _json("infer JSON: a long shape", b"[" + filled(b"999", size - 200) + b"]", b"[1]", "UINT8")
    yield _json("infer JSON: a long name", b"[1]", b"[1]", "UINT8", tensor_name=b"n" * (size - 200))
    yield _json("infer JSON: a long datatype", b"[1]", b"[1]", "D" * (size - 200))
    empty = b'{"name":"%d","datatype":"","shape":[]}'
    inputs = b",".join(empty % number for number in range(size // 46))
    yield Attack(name="infer JSON: many inputs", path=INFER, headers=JSON, body=b'{"inputs":[' + inputs + b"]}")
    one = b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,1,1,3],"data":[1,2,3]}],'
    for name, member in {
        "outputs": b'"outputs":[' + filled(b'{"name":""}', size - 200) + b"]}",
        "parameters": b'"parameters":{"a":[' + filled(b"[]", size - 200) + b"]}}",
        "a long id": b'"id":"' + b"i" * (size - 200) + b'"}',
        "digits": b'"parameters":{"timeout":' + b"9" * 4000 + b"}}",
    }.items():
        yield Attack(name=f"infer JSON: {name}", path=INFER, headers=JSON, body=one + member)


def grpc_attacks(size: int) -> Iterator[Attack]:
    """Yield encoded ModelInferRequests of about ``size`` bytes."""
    rows = size // 3 - 100
    message = _message([rows, 1, 1, 3], "UINT8")
    message.raw_input_contents.append(bytes(rows * 3))
    yield Attack(name="gRPC: raw UINT8 rows", body=message.SerializeToString())
    count = size // 4 - 100
    message = _message([count], "BYTES")
    message.raw_input_contents.append(bytes(4 * count))
    yield Attack(name="gRPC: raw BYTES of empty elements", body=message.SerializeToString())
    for name, contents in {
        "BYTES elements": b"\x42\x00" * (size // 2),
        "packed INT64": _field(3, bytes(size)),
        "packed INT32": _field(2, bytes(size)),
        "packed BOOL": _field(1, b"\x01" * size),
        "INT64, not packed": b"\x18\x01" * (size // 2),
        "packed FP32": _field(6, bytes(size // 4 * 4)),
    }.items():
        tensor = _field(1, b"image") + _field(2, b"UINT8") + _field(3, bytes([1, 1, 1, 3])) + _field(5, contents)
        yield Attack(name=f"gRPC: typed {name}", body=_field(1, b"tiny") + _field(5, tensor))
    yield Attack(name="gRPC: empty inputs", body=_field(1, b"tiny") + b"\x2a\x00" * (size // 2))
    yield Attack(name="gRPC: empty outputs", body=_field(1, b"tiny") + b"\x32\x00" * (size // 2))
    yield Attack(name="gRPC: empty raw contents", body=_field(1, b"tiny") + b"\x3a\x00" * (size // 2))
    shape = _field(1, b"image") + _field(2, b"UINT8") + _field(3, b"\x01" * size)
    yield Attack(name="gRPC: a long shape", body=_field(1, b"tiny") + _field(5, shape))
    yield Attack(name="gRPC: a long name", body=_field(1, b"n" * size))
    yield Attack(name="gRPC: unknown fields", body=_field(1, b"tiny") + b"\x7a\x00" * (size // 2))
    yield Attack(name="gRPC: no message", body=b"\xff" * size)


def packed_zeros(size: int) -> bytes:
    """Return gzip of so many zeros, made in pieces."""
    compressor = zlib.compressobj(9, wbits=31)
    parts = [compressor.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join([*parts, compressor.flush()])


def packed(body: bytes) -> bytes:
    """Return gzip of a body."""
    return gzip.compress(body, 1, mtime=0)


def filled(value: bytes, size: int) -> bytes:
    """Return a value, repeated with commas between to about ``size`` bytes."""
    count = max(1, (size - 20) // (len(value) + 1))
    return (value + b",") * (count - 1) + value


def _binary(name: str, shape: list[int], data: bytes, datatype: str = "UINT8") -> Attack:
    tensor = {"name": "image", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
    header = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header)), **GZIP}
    return Attack(name=f"{name}, gzip", path=INFER, headers=headers, body=packed(header + data))


def _json(name: str, shape: bytes, data: bytes, datatype: str, *, tensor_name: bytes = b"image") -> Attack:
    tensor = b'{"name":"' + tensor_name + b'","datatype":"' + datatype.encode() + b'","shape":' + shape
    return Attack(name=name, path=INFER, headers=JSON, body=b'{"inputs":[' + tensor + b',"data":' + data + b"}]}")


def _message(shape: list[int], datatype: str) -> Any:
    message = message_class("ModelInferRequest")(model_name="tiny")
    message.inputs.add(name="image", datatype=datatype, shape=shape)
    return message


def _field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Return a number as protobuf has it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()

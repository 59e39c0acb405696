"""Forms: the parts of a multipart/form-data body."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from runtime.errors import InputError
from runtime.inputs.datatypes import from_base64
from runtime.server.errors import bounded

# Searching a piece holds Python's lock: the event loop has its turn between pieces.
_PIECE_BYTES = 1024 * 1024

# The headers of a part that are read, in lower case.
_HEADERS = (b"content-disposition", b"content-type", b"content-transfer-encoding")

# A file's name in UTF-8 and percent-encoded, as some clients add it or send it alone; the parser leaves it out.
_ENCODED_NAME = re.compile(rb";\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]*)", re.IGNORECASE)

# The most characters of a name in a message.
_NAME_CHARACTERS = 200


@dataclass(kw_only=True)
class FormPart:
    """One part of a form: a file where it has a ``filename``, or a type other than text; otherwise a field."""

    name: str
    filename: str | None
    media_type: str = ""
    is_base64: bool = False
    data: bytes = b""

    @property
    def is_file(self) -> bool:
        """Whether the part says that it is a file."""
        return self.filename is not None or self.media_type not in {"", "text/plain"}


@dataclass(kw_only=True)
class _Collector:
    """The callbacks of the parser, each for a piece of the body."""

    parts: list[FormPart] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    header: bytes = b""
    value: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    has_end: bool = False

    def on_part_begin(self) -> None:
        self.header = self.value = b""
        self.headers = {}

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        if self.header.lower() in _HEADERS:
            self.headers[self.header.lower()] = self.value
        self.header = self.value = b""

    def on_headers_finished(self) -> None:
        disposition, media_type, encoding = (self.headers.get(name, b"") for name in _HEADERS)
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise _wrong("a part's Content-Disposition has no 'name'")
        filename = options.get(b"filename")
        encoded = _ENCODED_NAME.search(disposition)
        if encoded is not None:
            filename = unquote_to_bytes(encoded.group(1))
        self.parts.append(
            FormPart(
                name=_to_text(options[b"name"]),
                filename=None if filename is None else _to_text(filename),
                media_type=_to_text(media_type).partition(";")[0].strip().lower(),
                is_base64=encoding.strip().lower() == b"base64",
            )
        )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        # One call per line end that may begin a boundary: joined once, or a body of line ends takes quadratic time.
        self.chunks.append(data[start:end])

    def on_part_end(self) -> None:
        self.parts[-1].data = b"".join(self.chunks)
        self.chunks.clear()

    def on_end(self) -> None:
        self.has_end = True


def count_parts(body: bytes, content_type: str) -> int:
    """Return at most how many parts a form has, counted by its boundary alone.

    Raises InputError where the content type has no boundary.
    """
    line = b"--" + _boundary(content_type)
    # Pieces overlap by what a boundary that lies across their ends has in the first of them.
    return sum(
        body.count(line, start, start + _PIECE_BYTES + len(line) - 1) for start in range(0, len(body), _PIECE_BYTES)
    )


def read_form(body: bytes, content_type: str) -> list[FormPart]:
    """Return the parts of a form, in order; raises InputError where the body is none."""
    collector = _Collector()
    callbacks = {name: getattr(collector, name) for name in dir(collector) if name.startswith("on_")}
    try:
        parser = MultipartParser(_boundary(content_type), callbacks)  # type: ignore[arg-type]  # a TypedDict by name
        for start in range(0, len(body), _PIECE_BYTES):
            parser.write(body[start : start + _PIECE_BYTES])
        parser.finalize()
    except FormParserError as error:
        raise _wrong(str(error)) from None
    if not collector.has_end:
        raise _wrong("cut short, as the boundary at its end is missing")
    for part in collector.parts:
        if part.is_base64:
            name = bounded(part.filename or part.name, _NAME_CHARACTERS)
            part.data = from_base64(part.data.decode("latin-1"), f"'{name}'")
    return collector.parts


def _boundary(content_type: str) -> bytes:
    _, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise _wrong("its Content-Type has no boundary")
    return boundary


def _wrong(reason: str) -> InputError:
    return InputError(f"body: not multipart/form-data: {reason}. Send it as a browser's form does.")


def _to_text(name: bytes) -> str:
    return name.decode("utf-8", "replace")

"""Forms: the parts of a multipart/form-data body."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from runtime.errors import InputError

# Searching a piece holds Python's lock: the event loop has its turn between pieces.
_PIECE_BYTES = 1024 * 1024


@dataclass(kw_only=True)
class FormPart:
    """One part of a form: a file where it has a ``filename``, otherwise a field."""

    name: str
    filename: str | None
    data: bytes = b""


@dataclass(kw_only=True)
class _Collector:
    """The callbacks of the parser, each for a piece of the body."""

    parts: list[FormPart] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    header: bytes = b""
    value: bytes = b""
    disposition: bytes = b""

    def on_part_begin(self) -> None:
        self.header = self.value = self.disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = self.value
        self.header = self.value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self.disposition)
        if b"name" not in options:
            raise _wrong("a part's Content-Disposition has no 'name'")
        filename = options.get(b"filename")
        self.parts.append(
            FormPart(name=_to_text(options[b"name"]), filename=None if filename is None else _to_text(filename))
        )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        # One call per line end that may begin a boundary: joined once, or a body of line ends takes quadratic time.
        self.chunks.append(data[start:end])

    def on_part_end(self) -> None:
        self.parts[-1].data = b"".join(self.chunks)
        self.chunks.clear()


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

"""Inputs behind URLs such as s3://bucket/folder, read with pyarrow."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from runtime.engine.concurrency import ThreadPool
from runtime.errors import InputError
from runtime.inputs.source import NamedInput, Remote
from runtime.inputs.tabular.tables import import_parquet

# Requests to an object store at a time: they wait rather than work.
_FETCHES = 16


def walk_url(url: str, is_input: Callable[[str], bool]) -> Iterator[Remote] | None:
    """Return the files under a folder, at any depth, whose names are an input's; None where ``url`` is no folder."""
    files, path = _open(url)
    with _readable(url):
        info = files.get_file_info(path)
    return _walk(url, is_input) if not info.is_file and info.type.name == "Directory" else None


def read_url(url: str) -> bytes:
    """Return the bytes behind a URL; raises InputError where it cannot be read."""
    files, path = _open(url)
    with _readable(url), files.open_input_stream(path) as stream:
        data: bytes = stream.readall()
        return data


@contextmanager
def local_copy(url: str) -> Iterator[Path]:
    """Yield a temporary file with the bytes behind a URL; its name ends like the URL's."""
    files, path = _open(url)
    with tempfile.NamedTemporaryFile(suffix=Path(Remote(url).name).suffix) as copy:
        with _readable(url), files.open_input_stream(path) as stream:
            while chunk := stream.read(1 << 20):
                copy.write(chunk)
        copy.flush()
        yield Path(copy.name)


def fetch_each(inputs: Iterable[NamedInput]) -> Iterator[NamedInput]:
    """Yield the inputs in their order, with the bytes of each Remote, or the InputError of one that cannot be read."""
    inputs = iter(inputs)
    for named in inputs:
        if isinstance(named[1], Remote):
            with ThreadPool(_FETCHES) as fetches:
                yield from fetches.map(_fetch, chain([named], inputs))
            return
        yield named


def _fetch(named: NamedInput) -> NamedInput:
    name, source = named
    if not isinstance(source, Remote):
        return named
    try:
        return name, read_url(source.url)
    except InputError as error:
        return name, error


def _walk(url: str, is_input: Callable[[str], bool]) -> Iterator[Remote]:
    from pyarrow.fs import FileSelector

    files, path = _open(url)
    with _readable(url):
        entries = files.get_file_info(FileSelector(path, recursive=False))
    base, question, options = url.partition("?")
    for info in sorted(entries, key=lambda info: info.base_name):
        child = f"{base.rstrip('/')}/{info.base_name}{question}{options}"
        if info.type.name == "Directory":
            yield from _walk(child, is_input)
        elif is_input(info.base_name):
            yield Remote(child)


def _open(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it, as it is; a local file's may also be percent-encoded."""
    import_parquet(Remote(url).name, what="URLs need")
    base, _, options = url.partition("?")
    scheme, _, rest = base.partition("://")
    authority, _, path = rest.partition("/")
    with _readable(url):
        files, root = _open_root(f"{scheme}://{authority}/" + (f"?{options}" if options else ""))
    path = f"{root.rstrip('/')}/{path}".rstrip("/")
    # Names of objects may have a %; in a URL of a local file, as programs write it, it begins a character.
    if scheme == "file" and not Path(path).exists() and Path(unquote(path)).exists():
        path = unquote(path)
    return files, path


@lru_cache(maxsize=64)
def _open_root(url: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    files, root = FileSystem.from_uri(url)
    return files, root


@contextmanager
def _readable(url: str) -> Iterator[None]:
    """Raise InputError for what a file system complains about."""
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these types
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{Remote(url).name}': cannot be read: {reason}. Check the URL and the access to it."
        ) from error

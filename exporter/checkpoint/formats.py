"""Checkpoint file formats, read as data."""

import json
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from exporter.checkpoint.adapters import check_no_adapter
from exporter.checkpoint.description import ITEM_BYTES, Container, Format, Storage, StoredTensor
from exporter.checkpoint.foreign import EXPECTED, check_archive, check_no_joblib, describe_folder, foreign_file_error
from exporter.checkpoint.unpickler import PICKLE_LIMIT, Opaque, Symbol, check_extent, read_pickle
from exporter.errors import CheckpointError, first_line
from runtime.errors import TruecopyError

_ZIP_MAGIC = b"PK\x03\x04"
_LFS_MAGIC = b"version https://git-lfs"
# A legacy torch.save file starts with a pickled number, protocol 2: torch.serialization.MAGIC_NUMBER.
_PICKLE_MAGIC = b"\x80"
_LEGACY_NUMBER = 0x1950A86A20F9469CFC6C

# A header describes tensors in a hundred bytes each; Python objects made from one take thirty times its size at worst.
_HEADER_LIMIT = 25_000_000
_SAFE_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


class DamagedFileError(Exception):  # reported as CheckpointError, with the file's name
    """The file is not what its first bytes say."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What one file or folder holds: a tree of dictionaries, lists, StoredTensors and Opaques.

    ``imports`` are the names that loading it for real would import; ``checksums`` the CRC-32 of runs of bytes, where
    the container has them; ``files`` everything that belongs to it.
    """

    format: Format
    container: Container
    root: object
    files: tuple[Path, ...]
    imports: tuple[str, ...] = ()
    checksums: Mapping[Storage, int] = field(default_factory=dict)


def read_content(path: Path) -> Content:
    """Return the content of file or folder ``path``, with its tensors described and not loaded.

    Raises CheckpointError when it is missing, empty, damaged or no checkpoint.
    """
    with checkpoint_errors(path):
        check_no_adapter(path)
        return _read_folder(path) if path.is_dir() else _read_file(path)


@contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Turn whatever a checkpoint leads its reader to raise into CheckpointError, in one sentence.

    What a file says is not to be trusted: damage surfaces as whatever its bytes lead a reader to do.
    """
    try:
        yield
    except DamagedFileError as error:
        raise CheckpointError(f"'{path}': damaged: {first_line(error)[:300]}. Copy or download it again.") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise CheckpointError(f"'{path}': cannot be read: {reason}. Check its permissions.") from error
    except (TruecopyError, MemoryError):
        raise
    except Exception as error:
        reason = first_line(error)[:300] or type(error).__name__
        raise CheckpointError(
            f"'{path}': damaged: its description of tensors cannot be read: {reason}. Copy or download it again."
        ) from error


def _read_file(path: Path) -> Content:
    if not path.exists():
        raise CheckpointError(f"'{path}': no such file: {EXPECTED}. Check the path.")
    if not path.is_file():
        raise CheckpointError(f"'{path}': not a file: {EXPECTED}, got a device or pipe. Name a file.")
    with path.open("rb") as stream:
        head = stream.read(512)
        if not head:
            raise CheckpointError(f"'{path}': empty: {EXPECTED}, got 0 bytes. Copy or download it again.")
        if head.startswith(_LFS_MAGIC):
            raise CheckpointError(
                f"'{path}': a Git LFS pointer, not the weights: {EXPECTED}. Run 'git lfs pull' in its repository."
            )
        if head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
            raise CheckpointError(
                f"'{path}': a web page, not a checkpoint: {EXPECTED}. The download failed or needs a login; "
                "fetch it again."
            )
        stream.seek(0)
        if head.startswith(_ZIP_MAGIC):
            return _read_zip(path)
        # The length of safetensors' header comes first, and may begin with the byte that a pickle begins with.
        if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= _HEADER_LIMIT:
            return Content(
                format="state_dict", container="safetensors", root=_read_safetensors(path, stream), files=(path,)
            )
        if head.startswith(_PICKLE_MAGIC):
            check_no_joblib(path, head)
            return _read_legacy(path, stream)
    if path.name.endswith(".index.json"):
        raise CheckpointError(
            f"'{path}': lists the files of a checkpoint, and holds no weights. Pass the folder with all of them, "
            f"'{path.parent}'."
        )
    raise foreign_file_error(path, head)


def _read_zip(path: Path) -> Content:
    size_bytes = path.stat().st_size
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"'{path}': truncated: {EXPECTED}, got {size_bytes} bytes without the end of the archive. "
            "Copy or download it again."
        )
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
        check_archive(path, archive.namelist())
        entries = {}
        for info in archive.infolist():
            # Everything lies under one folder, named after the file as it was saved.
            name = info.filename.partition("/")[2]
            if name.startswith("code/"):  # of TorchScript: not needed, and compressed
                continue
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise DamagedFileError(f"'{info.filename}' in it is compressed, which torch.save never does")
            entries[name] = info
        if "data.pkl" not in entries:
            raise DamagedFileError("an archive without 'data.pkl', so not one of torch.save")
        storages = {name: _storage_of(path, stream, info, size_bytes) for name, info in entries.items()}
        _check_apart(storages)
        if "byteorder" in entries and _bytes_of(stream, storages["byteorder"], 16).strip() != b"little":
            raise DamagedFileError("its numbers are big-endian")
        if storages["data.pkl"].size_bytes > PICKLE_LIMIT:
            raise DamagedFileError(f"its pickle has more than {PICKLE_LIMIT >> 20} MB")

        def find_storage(key: str, needed_bytes: int) -> Storage:
            storage = storages.get(f"data/{key}")
            if storage is None or storage.size_bytes < needed_bytes:
                raise pickle.UnpicklingError(f"storage '{key[:20]}' is missing or too short")
            return storage

        stream.seek(storages["data.pkl"].offset)
        scripted = "constants.pkl" in entries
        root, imports = read_pickle(stream, find_storage)
        checksums = {
            storage: info.CRC
            for name, storage in storages.items()
            # torch.serialization.set_crc32_options(False) leaves zeros.
            if (info := entries[name]).CRC
        }
    return Content(
        format="torchscript" if scripted else "state_dict",
        container="zip",
        root=root,
        files=(path,),
        # A scripted module's own classes are its code, which is not run either.
        imports=() if scripted else tuple(imports),
        checksums=checksums,
    )


def _storage_of(path: Path, stream: BinaryIO, info: zipfile.ZipInfo, size_bytes: int) -> Storage:
    """Return the storage of an archive's entry: its local header has a name and padding of its own."""
    stream.seek(info.header_offset)
    header = stream.read(30)
    if len(header) != 30 or not header.startswith(_ZIP_MAGIC):
        raise DamagedFileError(f"no entry '{info.filename}' where the archive's directory says")
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    offset = info.header_offset + 30 + name_bytes + extra_bytes
    if offset + info.file_size > size_bytes:
        raise DamagedFileError(f"'{info.filename}' in it ends after the file")
    return Storage(path=path, offset=offset, size_bytes=info.file_size)


def _check_apart(storages: Mapping[str, Storage]) -> None:
    """Raise DamagedFileError where entries share bytes: a small archive could claim any number of them."""
    end = 0
    for storage in sorted(storages.values(), key=lambda storage: storage.offset):
        if storage.offset < end:
            raise DamagedFileError("its entries overlap")
        end = storage.offset + storage.size_bytes


def _bytes_of(stream: BinaryIO, storage: Storage, limit: int) -> bytes:
    stream.seek(storage.offset)
    return stream.read(min(storage.size_bytes, limit))


def _read_legacy(path: Path, stream: BinaryIO) -> Content:
    size_bytes = path.stat().st_size
    pending: dict[str, Storage] = {}

    def find_storage(key: str, needed_bytes: int) -> Storage:
        # Where it lies is known after the pickle: _place_storages says it.
        storage = pending.setdefault(key, Storage(path=path, offset=-1, size_bytes=needed_bytes))
        if needed_bytes > size_bytes or storage.size_bytes != needed_bytes:
            raise pickle.UnpicklingError(f"storage '{key[:20]}' is longer than the file")
        return storage

    number, first_imports = read_pickle(stream, find_storage)
    if number != _LEGACY_NUMBER:
        if pending:
            raise DamagedFileError("its tensors have no values")
        # A bare pickle: nothing in it can be a tensor, but it may want to run something.
        return Content(
            format="state_dict", container="legacy", root=number, files=(path,), imports=tuple(first_imports)
        )
    read_pickle(stream, find_storage)  # the protocol
    system, _ = read_pickle(stream, find_storage)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise DamagedFileError("its numbers are big-endian, or its header is broken")
    root, imports = read_pickle(stream, find_storage)
    keys, _ = read_pickle(stream, find_storage)
    if not isinstance(keys, list) or not all(isinstance(key, str | int) for key in keys):
        raise DamagedFileError("its list of storages is broken")
    _place_storages(path, stream, [str(key) for key in keys], pending)
    return Content(format="state_dict", container="legacy", root=root, files=(path,), imports=tuple(imports))


def _place_storages(path: Path, stream: BinaryIO, keys: Sequence[str], pending: Mapping[str, Storage]) -> None:
    """Say where the storages lie that follow a legacy file's pickles; ``pending`` are those of its tensors, by key."""
    offset = stream.tell()
    if set(pending) != set(keys) or len(set(keys)) != len(keys):
        raise DamagedFileError("its list of storages is broken")
    for key in keys:
        stream.seek(offset)
        prefix = stream.read(8)
        if len(prefix) != 8:
            raise DamagedFileError(f"storage '{key[:20]}' is missing: the file ends early or is broken")
        needed_bytes, (numel,) = pending[key].size_bytes, struct.unpack("<q", prefix)
        if numel < 0 or (numel and needed_bytes % numel) or (not numel and needed_bytes):
            raise DamagedFileError(f"storage '{key[:20]}' has another length than the tensors say")
        # Tensors all over the file's objects refer to it, and nothing has been computed from it yet.
        object.__setattr__(pending[key], "offset", offset + 8)
        offset += 8 + needed_bytes
    if offset != (size_bytes := path.stat().st_size):
        raise DamagedFileError(f"expected {offset} bytes, got {size_bytes}")


def _read_safetensors(path: Path, stream: BinaryIO) -> dict[str, StoredTensor]:
    size_bytes = os.fstat(stream.fileno()).st_size
    (header_bytes,) = struct.unpack("<Q", stream.read(8))
    if header_bytes > min(_HEADER_LIMIT, size_bytes - 8):
        raise DamagedFileError(
            f"expected a header of at most {min(_HEADER_LIMIT, size_bytes - 8)} bytes, got {header_bytes}"
        )
    header = json.loads(stream.read(header_bytes))
    header.pop("__metadata__", None)
    data = 8 + header_bytes
    tensors, end = {}, 0
    for key, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, (start, stop) = _SAFE_DTYPES.get(entry["dtype"]), entry["data_offsets"]
        if dtype is None:
            raise DamagedFileError(f"'{key}' has the unknown type '{entry['dtype']}'")
        shape = tuple(entry["shape"])
        storage = Storage(path=path, offset=data + start, size_bytes=stop - start)
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        check_extent(dtype, shape, strides, 0, storage)
        if start != end or stop - start != math.prod(shape) * ITEM_BYTES[dtype]:
            raise DamagedFileError(
                f"'{key}' lies at bytes {start} to {stop}, which its shape {list(shape)} does not fill"
            )
        tensors[key] = StoredTensor(dtype=dtype, shape=shape, strides=strides, offset=0, storage=storage)
        end = stop
    if data + end != size_bytes:
        raise DamagedFileError(f"expected {data + end} bytes, got {size_bytes}")
    return tensors


_WHOLE = ("model.safetensors", "pytorch_model.bin")


def _read_folder(path: Path) -> Content:
    """Read a sharded checkpoint, or the one checkpoint in a Hugging Face folder."""
    form: Format = "huggingface" if (path / "config.json").is_file() else "state_dict"
    indexes = sorted(path.glob("*.index.json"), key=lambda file: ("safetensors" not in file.name, file.name))
    whole = next((path / name for name in _WHOLE if (path / name).is_file()), None)
    if whole is None and not indexes:
        names_there = ", ".join(f"'{file.name}'" for file in sorted(path.iterdir())[:10]) or "nothing"
        raise CheckpointError(
            f"'{path}': is a folder without a checkpoint: expected '*.index.json' or one of "
            f"{', '.join(map(repr, _WHOLE))}, got {names_there}. {describe_folder(path) or 'Name the file in it.'}"
        )
    if whole is not None:
        part = _read_file(whole)
        return Content(
            format=form,
            container=part.container,
            root=part.root,
            files=part.files,
            imports=part.imports,
            checksums=part.checksums,
        )
    index: Any = json.loads(indexes[0].read_text(encoding="utf-8"))
    shard_of: dict[str, str] = index["weight_map"]
    names = sorted(set(shard_of.values()))
    if any(Path(name).name != name for name in names):
        raise DamagedFileError(f"'{indexes[0].name}' names a shard outside the folder")
    parts = {}
    for name in names:
        if not (path / name).is_file():
            raise CheckpointError(
                f"'{path}': shard '{name}' is missing: expected {len(names)} shards, as '{indexes[0].name}' says. "
                "Download it as well."
            )
        parts[name] = _read_file(path / name)
    tensors = {}
    for key, name in shard_of.items():
        root = parts[name].root
        tensor = root.get(key) if isinstance(root, dict) else None
        if not isinstance(tensor, StoredTensor):
            raise DamagedFileError(f"'{key}' is not in '{name}', where '{indexes[0].name}' says it is")
        tensors[key] = tensor
    return Content(
        format=form,
        container="sharded",
        root=tensors,
        files=(indexes[0], *(path / name for name in names)),
        imports=tuple(name for part in parts.values() for name in part.imports),
        checksums={storage: crc for part in parts.values() for storage, crc in part.checksums.items()},
    )


def describe_root(root: object) -> str:
    """Return a description of a file's top level, for an error."""
    if isinstance(root, Mapping):
        return "keys " + (", ".join(f"'{str(key)[:80]}'" for key in list(root)[:10]) or "none")
    if isinstance(root, Opaque):
        return f"an object of '{str(root.symbol)[:200]}'"
    return f"'{str(root)[:200]}'" if isinstance(root, Symbol) else type(root).__name__

"""Integrity of a checkpoint: hash, checksums and non-finite values, in one pass."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.checkpoint.description import Storage, StoredTensor
from exporter.checkpoint.formats import Content, DamagedFileError

# A multiple of every item size, so that no value is cut in two; small enough to stay in a core's cache.
_CHUNK_BYTES = 1 << 20

_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80}


@dataclass(frozen=True, kw_only=True)
class Integrity:
    """The SHA-256 of the file, or of the files' own hashes, and the storages with NaN or infinity."""

    sha256: str
    size_bytes: int
    non_finite: frozenset[Storage]


def check_integrity(content: Content, tensors: Iterable[StoredTensor]) -> Integrity:
    """Hash the files, compare every checksum, and look through the values of ``tensors``.

    Raises DamagedFileError where a checksum differs.
    """
    dtypes = {tensor.storage: tensor.dtype for tensor in tensors}
    # Hashing and checking take one core each; both let go of the interpreter's lock.
    with ThreadPoolExecutor(max_workers=2) as pool:
        hashes = pool.submit(lambda: [_sha256(path) for path in content.files])
        non_finite = frozenset(_check(content.checksums, dtypes))
        digests = hashes.result()
    # As 'sha256sum' prints them, so that anyone can compute it.
    listed = "".join(f"{digest}  {path.name}\n" for digest, path in zip(digests, content.files, strict=True))
    sha256 = digests[0] if len(digests) == 1 else hashlib.sha256(listed.encode()).hexdigest()
    size_bytes = sum(path.stat().st_size for path in content.files)
    return Integrity(sha256=sha256, size_bytes=size_bytes, non_finite=non_finite)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check(checksums: Mapping[Storage, int], dtypes: Mapping[Storage, str]) -> Iterator[Storage]:
    """Yield the storages that hold NaN or infinity."""
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    for storage in {**checksums, **dtypes}:
        crc, finite = 0, True
        with storage.path.open("rb", buffering=0) as stream:
            stream.seek(storage.offset)
            left = storage.size_bytes
            while left:
                chunk = buffer[: min(left, _CHUNK_BYTES)]
                if stream.readinto(chunk) != len(chunk):
                    raise DamagedFileError("the file ends before its weights do")
                left -= len(chunk)
                if storage in checksums:
                    crc = zlib.crc32(chunk, crc)
                finite = finite and _is_finite(chunk, dtypes.get(storage, ""))
        if storage in checksums and crc != checksums[storage]:
            raise DamagedFileError(
                f"{storage.size_bytes} bytes at {storage.offset} are not those that were saved (CRC-32)"
            )
        if not finite:
            yield storage


def _is_finite(chunk: memoryview, dtype: str) -> bool:
    if dtype in _EXPONENTS:
        mask = _EXPONENTS[dtype]
        halves = np.frombuffer(chunk[: len(chunk) // 2 * 2], np.uint16)
        return not bool(((halves & mask) == mask).any())
    if dtype not in ("float32", "float64"):
        return True
    width = 4 if dtype == "float32" else 8
    values = np.frombuffer(chunk[: len(chunk) // width * width], dtype)
    # NaN and infinity survive a sum, which is several times faster than checking each; so may an overflow.
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())

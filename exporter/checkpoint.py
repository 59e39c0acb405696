"""Any checkpoint file to its tensors and the facts about it; executes nothing that the file holds."""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard

import torch

from exporter.errors import CheckpointError

# Where training scripts put the weights, the most specific first.
USUAL_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights")

_ZIP_MAGIC = b"PK\x03\x04"
_LFS_MAGIC = b"version https://git-lfs"
# A legacy torch.save file starts with a pickled number, protocol 2: torch.serialization.MAGIC_NUMBER.
_PICKLE_MAGIC = b"\x80"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A state dict and where it was found.

    ``entry`` is the key of the file's dictionary that held it, empty where the file is the state dict itself.
    """

    path: Path
    sha256: str
    size_bytes: int
    container: Literal["zip", "legacy"]
    entry: str
    tensors: Mapping[str, torch.Tensor]

    @property
    def parameters(self) -> int:
        """The number of values in all tensors."""
        return sum(tensor.numel() for tensor in self.tensors.values())


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return the state dict in file ``path``, on the CPU, read with weights-only loading.

    Raises CheckpointError when the file is missing, empty, truncated, a Git LFS pointer or a web page, when it would
    run code, or when it holds no state dict.
    """
    path = Path(path)
    container = _check_container(path)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    content = _load(path, container)
    entry, tensors = _find_state_dict(path, content)
    return Checkpoint(
        path=path,
        sha256=sha256,
        size_bytes=path.stat().st_size,
        container=container,
        entry=entry,
        tensors=tensors,
    )


def _check_container(path: Path) -> Literal["zip", "legacy"]:
    """Return what kind of file this is, from its first bytes and, for a zip, its end."""
    expected = "expected a file that torch.save wrote"
    if path.is_dir():
        raise CheckpointError(f"'{path}': is a folder: {expected}. Name the file in it.")
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except FileNotFoundError:
        raise CheckpointError(f"'{path}': no such file: {expected}. Check the path.") from None
    except OSError as error:
        raise CheckpointError(f"'{path}': cannot be read: {error.strerror}. Check its permissions.") from error
    if not head:
        raise CheckpointError(f"'{path}': empty: {expected}, got 0 bytes. Copy or download it again.")
    if head.startswith(_LFS_MAGIC):
        raise CheckpointError(
            f"'{path}': a Git LFS pointer, not the weights: {expected}. Run 'git lfs pull' in its repository."
        )
    if head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"'{path}': a web page, not a checkpoint: {expected}. The download failed or needs a login; fetch it again."
        )
    if head.startswith(_ZIP_MAGIC):
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"'{path}': truncated: {expected}, got {path.stat().st_size} bytes without the end of the archive. "
                "Copy or download it again."
            )
        return "zip"
    if head.startswith(_PICKLE_MAGIC):
        return "legacy"
    raise CheckpointError(f"'{path}': not a PyTorch checkpoint: {expected}, got bytes that start with {head[:8]!r}.")


def _load(path: Path, container: Literal["zip", "legacy"]) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=container == "zip")
    except pickle.UnpicklingError as error:
        wanted = _refused_globals(path, container, error)
        if not wanted:
            raise CheckpointError(
                f"'{path}': damaged: its pickle cannot be read: {_first_line(error)}. Copy or download it again."
            ) from error
        raise CheckpointError(
            f"'{path}': refused: loading it would import and run {', '.join(wanted)}. "
            "Save the weights alone where it was trained: torch.save(model.state_dict(), 'weights.pth')."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # damage surfaces as RuntimeError, EOFError, ValueError, KeyError, struct.error, ...
        raise CheckpointError(f"'{path}': damaged: {_first_line(error)}. Copy or download it again.") from error


def _refused_globals(path: Path, container: Literal["zip", "legacy"], error: Exception) -> list[str]:
    """Return the quoted names of what the pickle wants beyond tensors."""
    names: list[str] = []
    if container == "zip":
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if not names:
        names = re.findall(r"GLOBAL ([\w.]+)", str(error))
    return [f"'{name}'" for name in dict.fromkeys(names)]


def _find_state_dict(path: Path, content: object) -> tuple[str, Mapping[str, torch.Tensor]]:
    if _is_state_dict(content):
        return "", content
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"'{path}': holds no state dict: expected a dictionary of tensors, got {type(content).__name__}. "
            "Save it with torch.save(model.state_dict(), 'weights.pth')."
        )
    for key in USUAL_KEYS:
        if _is_state_dict(nested := content.get(key)):
            return key, nested
    usual = ", ".join(f"'{key}'" for key in USUAL_KEYS)
    found = ", ".join(f"'{key}'" for key in list(content)[:10]) or "none"
    raise CheckpointError(
        f"'{path}': holds no state dict: expected tensors, or one of {usual}; got keys {found}. "
        "Save it with torch.save(model.state_dict(), 'weights.pth')."
    )


def _is_state_dict(value: object) -> TypeGuard[Mapping[str, torch.Tensor]]:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in value.items())
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__

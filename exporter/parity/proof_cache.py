"""Cache of what was proven on this machine with these versions."""

import hashlib
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import PIL
import torch
import torchvision

from runtime.artifact.unfinished import write_whole
from runtime.geometry.native import find_kernel
from runtime.version import package_version

# The libraries that compute pixels, and those of them that a report names.
_LIBRARIES = {"torch": torch, "torchvision": torchvision, "Pillow": PIL, "onnxruntime": onnxruntime, "numpy": np}
_VERSIONS = ("torch", "torchvision", "Pillow", "onnxruntime", "truecopy")

# What code is in: its bytes are part of the key, as an edited checkout has the version that it had before.
_CODE = (".py", ".so", ".dll")
_PACKAGES = ("exporter", "runtime", "truecopy_kernels")


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison that passed: what was compared, with which versions, and on which inputs.

    ``key`` names everything that the outcome depends on, by what it is; ``expected`` is the digest of all that the
    reference gave, ``inputs`` the number of inputs.
    """

    key: dict[str, str]
    expected: str
    inputs: int
    date: str

    def describe(self) -> str:
        """Return in words where the proof is from, and what it holds for."""
        versions = ", ".join(f"{name} {self.key[name]}" for name in _VERSIONS)
        return (
            f"taken from the cache of {self.date}, proven with {self.inputs} inputs by {versions}, "
            f"kernel {self.key['kernel']}, on {self.key['processor']}"
        )


class ProofCache:
    """Proofs in files of a folder, one each; ``notes`` are sentences on files that could not be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.notes: list[str] = []

    def find(self, key: Mapping[str, str]) -> Proof | None:
        """Return the proof for exactly this key; a damaged file is ignored, with a note."""
        path = self._path(key)
        try:
            proof = msgspec.json.decode(path.read_bytes(), type=Proof)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self.notes.append(f"'{path}': ignored: {' '.join(str(error).split())}")
            return None
        if proof.key != dict(key):
            self.notes.append(f"'{path}': ignored: it is the proof of something else")
            return None
        return proof

    def keep(self, key: Mapping[str, str], *, expected: str, inputs: int) -> None:
        """Write a proof, whole or not at all; a folder that cannot be written to is noted."""
        proof = Proof(key=dict(key), expected=expected, inputs=inputs, date=datetime.now(UTC).date().isoformat())
        path = self._path(key)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, msgspec.json.format(msgspec.json.encode(proof)), own_folder=True)
        except OSError as error:
            self.notes.append(f"'{path}': not written: {error.strerror or error}")

    def _path(self, key: Mapping[str, str]) -> Path:
        data = msgspec.json.encode(dict(key), order="deterministic")
        return self._folder / f"{hashlib.sha256(data).hexdigest()[:32]}.json"


def user_cache() -> ProofCache:
    """Return the cache in the user's own folder for such files."""
    # Relative paths in the variable are to be ignored: XDG Base Directory Specification.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".cache"
    return ProofCache(base / "truecopy" / "proofs")


def describe_machine() -> dict[str, str]:
    """Return everything that pixels depend on besides the transform and the artifact: versions, code, processor."""
    kernel = find_kernel()
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        **{name: str(module.__version__) for name, module in _LIBRARIES.items()},
        "onnxruntime build": onnxruntime.get_build_info(),
        "truecopy": package_version(),
        "kernel": f"{kernel.version} ({kernel.path})" if kernel.module is not None else "none",
        "code": _digest_of_code(),
        "python": platform.python_version(),
        "processor": f"{_processor()} ({capability}, {torch.get_num_threads()} threads)",
    }


def _digest_of_code() -> str:
    digest = hashlib.sha256()
    for name in _PACKAGES:
        spec = find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in sorted(path for path in Path(folder).rglob("*") if path.suffix in _CODE):
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _processor() -> str:
    """Return the processor's name, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or platform.machine()

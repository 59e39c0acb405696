"""The committed artifact, whole and damaged; nothing here needs PyTorch."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the artifact that a test may damage."""
    target = tmp_path / "copy"
    shutil.copytree(tiny, target)
    return target


@pytest.fixture
def edit_manifest() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Change an artifact's manifest in place, as JSON."""

    def edit(artifact: Path, change: Callable[[dict[str, Any]], None]) -> None:
        path = artifact / "truecopy.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return edit


@pytest.fixture
def rehash(edit_manifest: Callable[[Path, Callable[[dict[str, Any]], None]], None]) -> Callable[[Path, str], None]:
    """Make the manifest agree with a file that a test has replaced."""

    def fix(artifact: Path, name: str) -> None:
        data = (artifact / name).read_bytes()
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        edit_manifest(artifact, lambda manifest: manifest["files"].update({name: entry}))

    return fix

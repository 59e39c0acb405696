"""The JavaScript of docs/guides/without-python.md, on an artifact, against the runtime."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import truecopy

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guides" / "without-python.md"
ARTIFACT = ROOT / "tests" / "data" / "tiny"
PACKAGE = "onnxruntime-node@1.30.0"


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder that has onnxruntime-node, installed once; its scripts would download the libraries of CUDA."""
    folder = ROOT / "build" / "node"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("JavaScript was not run: install Node.js with npm")
    if not (folder / "node_modules" / "onnxruntime-node").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            pytest.skip(f"JavaScript was not run: npm cannot install {PACKAGE}: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.mark.slow
@pytest.mark.parametrize("photo", ["cat", "coffee", "rocket"])
def test_javascript_names_the_class_that_the_runtime_names(packages, tmp_path, photo):
    (program,) = re.findall(r"```js\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    image = Image.open(ROOT / "tests" / "data" / f"{photo}.jpg").convert("RGB").resize((640, 427))
    (tmp_path / "photo.rgb").write_bytes(image.tobytes())
    shutil.copytree(ARTIFACT, tmp_path / "artifacts" / "model")
    (tmp_path / "node_modules").symlink_to(packages)

    done = subprocess.run(
        [str(shutil.which("node")), "-e", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == truecopy.load(ARTIFACT).predict(image).index

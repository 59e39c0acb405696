"""The programs of docs/guides/without-python.md that can run here, on an artifact, against the runtime."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

import truecopy

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guides" / "without-python.md"
ARTIFACT = ROOT / "tests" / "data" / "tiny"
PACKAGES = ("onnxruntime-node@1.30.0", "onnxruntime-web@1.30.0")
PHOTOS = ("cat", "coffee", "rocket")


def program_with(language: str, mark: str) -> str:
    """The one program of the page in this language that contains the mark."""
    programs = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (program,) = (one for one in programs if mark in one)
    return str(program)


def check(command: Sequence[str | Path], folder: Path, photo: str) -> None:
    """Run a program where it finds the artifact and the photo, and compare what it prints with the runtime."""
    image = Image.open(ROOT / "tests" / "data" / f"{photo}.jpg").convert("RGB").resize((640, 427))
    (folder / "photo.rgb").write_bytes(image.tobytes())
    shutil.copytree(ARTIFACT, folder / "artifacts" / "model", dirs_exist_ok=True)

    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == truecopy.load(ARTIFACT).predict(image).index


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder that has the packages, installed once; their scripts would download the libraries of CUDA."""
    folder = ROOT / "build" / "node"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("JavaScript was not run: install Node.js with npm")
    if not all((folder / "node_modules" / name.partition("@")[0]).is_dir() for name in PACKAGES):
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *PACKAGES]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=180)
        if done.returncode:
            pytest.skip(f"JavaScript was not run: npm cannot install {', '.join(PACKAGES)}: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "photo"), [*(("onnxruntime-node", photo) for photo in PHOTOS), ("onnxruntime-web", PHOTOS[1])]
)
def test_javascript_names_the_class_that_the_runtime_names(packages, tmp_path, package, photo):
    (tmp_path / "node_modules").symlink_to(packages)

    check([str(shutil.which("node")), "-e", program_with("js", package)], tmp_path, photo)


@pytest.mark.slow
def test_cpp_names_the_class_that_the_runtime_names(tmp_path):
    """Against libtorch as PyTorch's wheel has it. The page's options are the compiler's here."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("C++ was not run: install g++")
    torch = find_spec("torch")
    if torch is None or torch.origin is None or sys.platform != "linux":
        pytest.skip("C++ was not run: needs PyTorch's wheel for Linux")
    (options,) = re.findall(r"`g\+\+ (-std.*?)`", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "predict.cpp").write_text(program_with("cpp", "torch/script.h"))
    command = [compiler, *options.replace("$TORCH", str(Path(torch.origin).parent)).split(), "-o", "predict"]

    compiled = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    assert compiled.returncode == 0, compiled.stderr
    for photo in PHOTOS:
        check([tmp_path / "predict"], tmp_path, photo)

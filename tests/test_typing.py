"""What a type checker knows of the public interface: mypy, with the project's settings, on a user's code."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

USER_CODE = """
import asyncio
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import truecopy
from runtime.inputs.decoder import PreparedInput
from runtime.results import InputScores

model = truecopy.load("artifacts/model", device="cpu", plan="throughput")
assert_type(model, truecopy.Model)
assert_type(truecopy.__version__, str)

assert_type(model.predict("cat.jpg"), truecopy.Result)
assert_type(model.predict(Path("cat.jpg"), top_k=3), truecopy.Result)
assert_type(model.predict(b"", threshold=0.5), truecopy.Result)
assert_type(model.predict(Image.new("RGB", (8, 8))), truecopy.Result)
assert_type(model.predict(np.zeros((8, 8, 3), dtype=np.uint8)), truecopy.Result)
assert_type(model.predict({"age": 39, "city": "Paris"}), truecopy.Result)
assert_type(model.predict(["cat.jpg"]), list[truecopy.Result])
assert_type(model.predict([Path("cat.jpg"), b"", np.zeros(3)]), list[truecopy.Result])
assert_type(model.predict((b"", b"")), list[truecopy.Result])
# One sequence of tokens or one pair of texts, where the artifact takes such.
assert_type(model.predict([5, 6, 7]), truecopy.Result | list[truecopy.Result])
assert_type(model.predict(("first", "second")), truecopy.Result | list[truecopy.Result])

result = model.predict("cat.jpg")
if isinstance(result, truecopy.Prediction):
    assert_type(result.label, str)
    assert_type(result.top, tuple[truecopy.ScoredLabel, ...])

prepared = model.prepare("cat.jpg")
assert_type(prepared, PreparedInput)
assert_type(model.bucket(prepared), Hashable)
assert_type(model.stack([prepared]), dict[str, NDArray[Any]])
assert_type(model.score([prepared]), Sequence[InputScores])
assert_type(model.interpret(model.score([prepared])[0], name="cat"), truecopy.Result)
assert_type(model.run({"pixels": np.zeros((1, 8, 8, 3), dtype=np.uint8)}), dict[str, NDArray[Any]])


async def predict() -> None:
    assert_type(await model.predict_async("cat.jpg"), truecopy.Result)
    assert_type(await model.predict_async(["cat.jpg"]), list[truecopy.Result])


asyncio.run(predict())

exported = truecopy.export("model.pth", "resnet18", force=True)
assert_type(exported, truecopy.ExportResult)
assert_type(exported.artifact, Path)
"""

WRONG_CODE = """
import truecopy

model = truecopy.load("artifacts/model", plan="fastest")
model.predict("cat.jpg").label
model.predict(None)
truecopy.exprt("model.pth")
"""


def check_types(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Return mypy's run on ``code`` with the project's settings."""
    file = tmp_path / "user_code.py"
    file.write_text(code)
    # From the root, whose packages and cache it uses.
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_a_type_checker_knows_the_types_of_the_public_interface(tmp_path):
    done = check_types(tmp_path, USER_CODE)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_type_checker_finds_what_is_wrong_in_calls_of_it(tmp_path):
    done = check_types(tmp_path, WRONG_CODE)

    errors = [line.partition("error: ")[2] for line in done.stdout.splitlines() if "error: " in line]
    assert done.returncode == 1, done.stderr
    assert any('"load" has incompatible type' in error for error in errors)
    assert any('has no attribute "label"' in error for error in errors)
    assert any('No overload variant of "predict"' in error for error in errors)
    assert any('has no attribute "exprt"' in error for error in errors)

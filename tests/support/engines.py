"""The rows that each way to run an artifact has for the same photos, which are alike or something is wrong."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from support.commands import TRUECOPY
from support.ray_nodes import LOOPBACK
from support.triton_server import Triton, ask

import runtime

Row = dict[str, Any]


def library_rows(artifact: Path, photos: Sequence[Path]) -> list[Row]:
    """Return the rows of ``Model.predict_each``, from bytes."""
    with runtime.load(artifact) as model:
        return [result.to_dict() for result in model.predict_each((str(path), path.read_bytes()) for path in photos)]


def server_rows(url: str, model: str, photos: Sequence[Path]) -> list[Row]:
    """Return the rows of our server, wherever it runs: one request per photo; a refusal is that photo's row."""
    rows = []
    with httpx.Client(base_url=url, timeout=120) as client:
        for path in photos:
            answer = client.post(f"/predict/{model}", files={"file": (str(path), path.read_bytes(), "image/jpeg")})
            assert answer.status_code in {200, 400}, (path, answer.status_code, answer.text)
            body = answer.json()
            rows += body["predictions"] if answer.status_code == 200 else [{"input": str(path), **body}]
    return rows


def ray_rows(artifact: Path, folder: Path, out: Path, *options: str) -> list[Row]:
    """Return the rows of 'truecopy predict --engine ray': Ray Data."""
    command = [*TRUECOPY, "predict", artifact, folder, "--engine", "ray", "--out", out, "--allow-errors", *options]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **LOOPBACK},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in out.read_text().splitlines()]


def triton_rows(triton: Triton, model: str, photos: Sequence[Path], *, batch: int = 5, **parameters: Any) -> list[Row]:
    """Return the rows of a real Triton's Python backend, queried by tritonclient."""
    printed = ask("triton_rows", triton.url, model, json.dumps(parameters), batch, *photos, timeout_s=300)
    return [json.loads(line) for line in printed.splitlines()]

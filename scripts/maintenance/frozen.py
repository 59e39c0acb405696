"""SHA-256 of every file that small networks of all kinds export to, compared with stored values.

The values depend on the processor as well as on the versions, so they are no test: they show that a refactoring has not
changed a byte of any artifact on the machine where both were taken.
"""

import argparse
import difflib
import hashlib
import json
import platform
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from support.kinds import kinds_in

STORED = Path(__file__).parents[2] / "tests" / "data" / "frozen.json"
PACKAGES = (
    *("torch", "torchvision", "onnx", "onnxscript", "onnxruntime-gpu", "numpy", "pillow", "scikit-learn", "skl2onnx"),
    *("tokenizers", "skops", "msgspec"),
)


def measure() -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each file by network and file name."""
    digests = {}
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in kinds_in(Path(folder)).values():
            artifact = kind.export().artifact
            digests[kind.name] = {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(artifact.iterdir())
            }
            print(f"{kind.name}: {len(digests[kind.name])} files", file=sys.stderr)
    return digests


def made_with() -> dict[str, str]:
    """Return what the values depend on besides the sources."""
    return {"python": platform.python_version(), "processor": processor(), **{name: version(name) for name in PACKAGES}}


def processor() -> str:
    """Return the processor's model name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the values in tests/data/frozen.json")
    options = parser.parse_args()
    document = {"made_with": made_with(), "sha256": measure()}
    text = json.dumps(document, indent=1) + "\n"
    if options.write:
        STORED.write_text(text)
        return
    stored = STORED.read_text()
    other = {
        name: f"{value} stored, {document['made_with'].get(name)} now"
        for name, value in json.loads(stored)["made_with"].items()
        if value != document["made_with"].get(name)
    }
    if other:
        print(f"the stored values are of another environment, so differences may come from it: {other}")
    if json.loads(stored)["sha256"] == document["sha256"]:
        print("every file is equal to the stored one")
        return
    print("".join(difflib.unified_diff(stored.splitlines(True), text.splitlines(True), "stored", "now", n=2)))
    sys.exit(1)


if __name__ == "__main__":
    main()

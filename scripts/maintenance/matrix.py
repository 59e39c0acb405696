"""The runtime's tests with the oldest and the newest versions of what it needs, on each Python that is found."""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("cpu", "serve", "text")
# The oldest versions have wheels for the oldest Python alone.
OLDEST_ON = PYTHONS[0]
# What the tests themselves need.
TEST_REQUIREMENTS = ("pytest", "hypothesis", "httpx")
SHOWN = ("numpy", "onnxruntime", "pillow", "msgspec", "typer")
_COUNTS = re.compile(r"(\d+ (?:passed|failed|skipped|errors?))")


def oldest(requirements: Sequence[str]) -> list[str]:
    """Return the requirements with ``==`` for the ``>=`` of each: the oldest version that is allowed."""
    pinned = []
    for requirement in map(Requirement, requirements):
        (least,) = (one.version for one in requirement.specifier if one.operator == ">=")
        pinned.append(f"{requirement.name}=={least}")
    return pinned


def find_python(version: str) -> str | None:
    """Return an interpreter that is really of this version; a version manager's stand-in may be of none."""
    found = shutil.which(f"python{version}")
    if found is None:
        return None
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([found, "-c", program], capture_output=True, text=True, check=False)
    return found if done.stdout.strip() == version else None


def run_row(python: str, requirements: Sequence[str], wheel: Path) -> tuple[str, str]:
    """Return the installed versions, and how the runtime's tests ended with them."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        venv = work / "venv" / "bin" / "python"
        subprocess.run([python, "-m", "venv", str(work / "venv")], check=True)
        install = [str(venv), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        installed = subprocess.run(
            [*install, str(wheel), *requirements, *TEST_REQUIREMENTS], capture_output=True, text=True, check=False
        )
        if installed.returncode:
            return "", f"not installable: {installed.stderr.strip().splitlines()[-1]}"
        program = f"from importlib.metadata import version; print(*(f'{{name}} {{version(name)}}' for name in {SHOWN}))"
        versions = subprocess.run([str(venv), "-c", program], check=True, capture_output=True, text=True).stdout.strip()
        # From a copy of the tests, so that the package under test is the wheel and not the checkout.
        shutil.copytree(ROOT / "tests", work / "tests")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, work)
        tested = subprocess.run(
            [str(venv), "-m", "pytest", "-q", "-o", "filterwarnings=default", "tests/runtime"],
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = tested.stdout.strip().splitlines()
        for line in lines:
            if line.startswith(("FAILED", "ERROR")):
                print(f"  {line}", file=sys.stderr)
        return versions, ", ".join(_COUNTS.findall(lines[-1])) if lines else tested.stderr.strip()[-200:]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/matrix", description=__doc__)
    parser.add_argument("pythons", nargs="*", metavar="VERSION", help=f"Pythons to run, of {', '.join(PYTHONS)}")
    asked = parser.parse_args().pythons or PYTHONS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [
        *project["dependencies"],
        *(one for name in EXTRAS for one in project["optional-dependencies"][name]),
    ]
    print("| Python | versions | tests/runtime |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)], check=True, capture_output=True
        )
        (wheel,) = Path(folder).glob("*.whl")
        for version in asked:
            python = find_python(version)
            if python is None:
                print(f"| {version} | | skipped: no interpreter 'python{version}' |", flush=True)
                continue
            rows = [("oldest", oldest(requirements))] if version == OLDEST_ON else []
            for name, chosen in [*rows, ("newest", requirements)]:
                versions, outcome = run_row(python, chosen, wheel)
                print(f"| {version} | {name}: {versions} | {outcome} |", flush=True)


if __name__ == "__main__":
    main()

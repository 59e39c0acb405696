"""The runtime's tests with the oldest and the newest versions of what it needs, on each Python that is found."""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every row tests: the wheel, and the tests that belong to it."""

    wheel: Path
    tests: Path
    settings: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The installed versions, and how the tests ended with them."""

    versions: str
    text: str
    passed: bool


def take_material(folder: Path) -> Material:
    """Build the wheel and copy the tests into ``folder``, both at once: the checkout may change while rows run."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    tests = shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    settings = tuple(Path(shutil.copy(ROOT / name, folder)) for name in ("pyproject.toml", "constraints.txt"))
    return Material(wheel=wheel, tests=tests, settings=settings)


def run_row(python: str, requirements: Sequence[str], material: Material) -> Outcome:
    """Return how the runtime's tests end with these requirements, in a new environment."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        venv = work / "venv" / "bin" / "python"
        subprocess.run([python, "-m", "venv", str(work / "venv")], check=True)
        install = [str(venv), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        installed = subprocess.run(
            [*install, str(material.wheel), *requirements, *TEST_REQUIREMENTS],
            capture_output=True,
            text=True,
            check=False,
        )
        if installed.returncode:
            reason = installed.stderr.strip().splitlines() or [f"pip exited with {installed.returncode}"]
            return Outcome(versions="", text=f"not installable: {reason[-1]}", passed=False)
        program = (
            f"from importlib.metadata import version; print(*(f'{{n}} {{version(n)}}' for n in {SHOWN}), sep=', ')"
        )
        versions = subprocess.run([str(venv), "-c", program], check=True, capture_output=True, text=True).stdout.strip()
        # Away from the checkout, so that the package under test is the wheel.
        shutil.copytree(material.tests, work / "tests")
        for path in material.settings:
            shutil.copy(path, work)
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
        text = ", ".join(_COUNTS.findall(lines[-1])) if lines else tested.stderr.strip()[-200:]
        return Outcome(versions=versions, text=text, passed=not tested.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/matrix", description=__doc__)
    parser.add_argument("pythons", nargs="*", metavar="VERSION", help=f"Pythons to run, of {', '.join(PYTHONS)}")
    asked = parser.parse_args().pythons or PYTHONS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [
        *project["dependencies"],
        *(one for name in EXTRAS for one in project["optional-dependencies"][name]),
    ]
    failed = False
    print("| Python | versions | tests/runtime |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        material = take_material(Path(folder))
        for version in asked:
            python = find_python(version)
            if python is None:
                print(f"| {version} | | skipped: no interpreter 'python{version}' |", flush=True)
                continue
            rows = [("oldest", oldest(requirements))] if version == OLDEST_ON else []
            for name, chosen in [*rows, ("newest", requirements)]:
                outcome = run_row(python, chosen, material)
                failed = failed or not outcome.passed
                print(f"| {version} | {name}: {outcome.versions} | {outcome.text} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()

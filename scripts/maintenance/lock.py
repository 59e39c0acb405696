"""Write deploy/container/locked.json: see scripts/lock. pip resolves, once a Python and machine; wheels alone count."""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "runtime" / "deploy" / "locked.json"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
# Of glibc 2.28 and older: what images of the last years have.
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
# What a container may need beside the dependencies that all have; the key of those is empty.
EXTRAS = ("cpu", "serve", "text", "tiff")


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {"": project["dependencies"], **{name: project["optional-dependencies"][name] for name in EXTRAS}}
    packages: dict[str, dict[str, Any]] = {}
    for python in PYTHONS:
        for machine in MACHINES:
            print(f"Python {python}, {machine}", file=sys.stderr)
            found = resolve([text for texts in wanted.values() for text in texts], python, machine)
            parts = {name: closure(texts, found, python, machine) for name, texts in wanted.items()}
            # pip judges markers by the Python that it runs on: what only that one needs is left out again.
            for name, item in found.items():
                if not any(name in names for names in parts.values()):
                    continue
                entry = packages.setdefault(name, describe(name, item))
                if entry["version"] != item["metadata"]["version"]:
                    sys.exit(
                        f"{name}: {entry['version']} and {item['metadata']['version']}: pin one in constraints.txt"
                    )
                entry["parts"] |= {part for part, names in parts.items() if name in names}
                entry["where"] |= {(python, machine)}
                entry["requires"] |= requirements_of(item, python, machine)
                wheel = item["download_info"]["url"].rpartition("/")[2]
                entry["wheels"][wheel] = item["download_info"]["archive_info"]["hashes"]["sha256"]
    everywhere = {(python, machine) for python in PYTHONS for machine in MACHINES}
    written = [
        {
            **entry,
            "parts": sorted(entry["parts"]),
            "requires": sorted(entry["requires"] & packages.keys()),
            "where": sorted(map(list, entry["where"] if entry["where"] != everywhere else ())),
            "wheels": dict(sorted(entry["wheels"].items())),
        }
        for _, entry in sorted(packages.items())
    ]
    direct = {part: sorted(names_of(texts)) for part, texts in wanted.items()}
    lock = {"pythons": PYTHONS, "machines": MACHINES, "direct": direct, "packages": written}
    LOCK.write_text(json.dumps(lock, indent=1) + "\n")
    print(f"{LOCK.relative_to(ROOT)}: {len(written)} packages", file=sys.stderr)


def resolve(requirements: list[str], python: str, machine: str) -> dict[str, dict[str, Any]]:
    """Return what pip would install, as its report has it, by canonical name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report), "--target", folder, "--only-binary", ":all:"]
        command += ["--python-version", python, "--constraint", str(ROOT / "constraints.txt")]
        command += [option for platform in PLATFORMS for option in ("--platform", f"{platform}_{machine}")]
        subprocess.run([*command, *requirements], check=True, timeout=600)
        items = json.loads(report.read_text())["install"]
    return {canonicalize_name(item["metadata"]["name"]): item for item in items}


def requirements_of(item: dict[str, Any], python: str, machine: str) -> set[str]:
    """Return the names of what a package itself requires there."""
    parsed = map(Requirement, item["metadata"].get("requires_dist") or ())
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "extra": "",
    }
    return {canonicalize_name(one.name) for one in parsed if one.marker is None or one.marker.evaluate(environment)}


def names_of(texts: list[str]) -> list[str]:
    """Return the canonical names in requirements."""
    return [canonicalize_name(Requirement(text).name) for text in texts]


def closure(texts: list[str], found: dict[str, dict[str, Any]], python: str, machine: str) -> set[str]:
    """Return the names of what these requirements bring, directly or not."""
    names: set[str] = set()
    todo = names_of(texts)
    while todo:
        name = todo.pop()
        if name not in names and name in found:
            names.add(name)
            todo += requirements_of(found[name], python, machine)
    return names


def describe(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """Return a new entry: what is the same everywhere."""
    metadata = item["metadata"]
    classifiers = [text.rpartition(":: ")[2] for text in metadata.get("classifier") or () if "License ::" in text]
    text = (metadata.get("license") or "").strip()
    return {
        "name": name,
        "version": metadata["version"],
        "license_expression": metadata.get("license_expression") or "",
        "license": text if text and "\n" not in text and len(text) < 60 else ", ".join(classifiers),
        "parts": set(),
        "where": set(),
        "requires": set(),
        "wheels": {},
    }


if __name__ == "__main__":
    main()

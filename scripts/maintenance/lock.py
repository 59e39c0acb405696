"""Lock of the container images: runtime/deploy/container/pylock.toml.

pip resolves once per Python and machine, with wheels alone. Its own 'pip lock' writes the environment that it runs in,
without extras and markers, so the results are merged here, in the format that both share (PEP 751).
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runtime.deploy.container.lock import FILE, Environment, LockedFor, marker_variables

ROOT = Path(__file__).parents[2]
LOCKED_FOR = LockedFor(pythons=("3.11", "3.12", "3.13"), machines=("x86_64", "aarch64"))
# Platform tags of glibc 2.28 and older, which images of the last years have.
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
# Extras that a container may need.
EXTRAS = ("cpu", "serve", "text", "tiff")
# Stands for the dependencies without any extra.
BASE = ""


@dataclass(kw_only=True)
class Locked:
    """What pip's reports say about one package, over all environments."""

    name: str
    version: str
    license: dict[str, str]
    extras: set[str] = field(default_factory=set)
    environments: set[Environment] = field(default_factory=set)
    requires: set[str] = field(default_factory=set)
    wheels: dict[str, dict[str, Any]] = field(default_factory=dict)


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = {BASE: project["dependencies"], **{name: project["optional-dependencies"][name] for name in EXTRAS}}
    packages: dict[str, Locked] = {}
    for python, machine in LOCKED_FOR.environments:
        print(f"Python {python}, {machine}", file=sys.stderr)
        items = resolve([text for texts in requirements.values() for text in texts], python, machine)
        closures = {extra: closure(texts, items, python, machine) for extra, texts in requirements.items()}
        # pip evaluates markers for the Python that it runs on: what only that one needs is dropped again.
        for name, item in items.items():
            if any(name in names for names in closures.values()):
                package = packages.setdefault(name, describe(name, item))
                merge(package, item, closures, python, machine)
    document = to_document(packages, requires_python=project["requires-python"])
    Pylock.from_dict(document).validate()
    FILE.write_text(to_toml(document), encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)}: {len(packages)} packages", file=sys.stderr)


def resolve(requirements: list[str], python: str, machine: str) -> dict[str, dict[str, Any]]:
    """Return the items of pip's installation report by canonical name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report), "--target", folder, "--only-binary", ":all:"]
        command += ["--python-version", python, "--constraint", str(ROOT / "constraints.txt")]
        command += [option for platform in PLATFORMS for option in ("--platform", f"{platform}_{machine}")]
        subprocess.run([*command, *requirements], check=True, timeout=600)
        items = json.loads(report.read_text())["install"]
    return {canonicalize_name(item["metadata"]["name"]): item for item in items}


def merge(package: Locked, item: dict[str, Any], closures: Mapping[str, set[str]], python: str, machine: str) -> None:
    """Add one environment's report to a package; exits where the versions differ."""
    version = item["metadata"]["version"]
    if package.version != version:
        sys.exit(f"{package.name}: {package.version} and {version}: pin one in constraints.txt")
    package.extras |= {extra for extra, names in closures.items() if package.name in names}
    package.environments.add((python, machine))
    package.requires |= requirements_of(item, python, machine)
    url = item["download_info"]["url"]
    if not url.startswith("https://"):
        sys.exit(f"{url}: a local file. Lock from an index alone, without pip's find-links and local indexes.")
    name = url.rpartition("/")[2]
    package.wheels[name] = {"name": name, "url": url, "hashes": item["download_info"]["archive_info"]["hashes"]}


def requirements_of(item: dict[str, Any], python: str, machine: str) -> set[str]:
    """Return the names of a package's own requirements in an environment."""
    requirements = map(Requirement, item["metadata"].get("requires_dist") or ())
    variables = {**marker_variables(python, machine), "extra": ""}
    return {
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(variables)
    }


def closure(texts: list[str], items: dict[str, dict[str, Any]], python: str, machine: str) -> set[str]:
    """Return the names of all packages that these requirements need, directly or not."""
    names: set[str] = set()
    remaining = [canonicalize_name(Requirement(text).name) for text in texts]
    while remaining:
        name = remaining.pop()
        if name not in names and name in items:
            names.add(name)
            remaining += requirements_of(items[name], python, machine)
    return names


def describe(name: str, item: dict[str, Any]) -> Locked:
    """Return a package with what is the same in every environment."""
    metadata = item["metadata"]
    classifiers = [text.rpartition(":: ")[2] for text in metadata.get("classifier") or () if "License ::" in text]
    text = (metadata.get("license") or "").strip()
    wording = text if text and "\n" not in text and len(text) < 60 else ", ".join(classifiers)
    license_of = {"license_expression": metadata.get("license_expression") or "", "license": wording}
    return Locked(
        name=name, version=metadata["version"], license={key: text for key, text in license_of.items() if text}
    )


def to_document(packages: Mapping[str, Locked], *, requires_python: str) -> dict[str, Any]:
    """Return the lock as the standard has it."""
    return {
        "lock-version": "1.0",
        "environments": [
            f"{marker_of(*environment)} and sys_platform == 'linux'" for environment in LOCKED_FOR.environments
        ],
        "requires-python": requires_python,
        "extras": list(EXTRAS),
        "created-by": "truecopy scripts/lock",
        "packages": [to_entry(package, packages.keys()) for _, package in sorted(packages.items())],
        "tool": {"truecopy": {"pythons": list(LOCKED_FOR.pythons), "machines": list(LOCKED_FOR.machines)}},
    }


def to_entry(package: Locked, names: Iterable[str]) -> dict[str, Any]:
    """Return a package as the standard has it; ``names`` are those of all packages."""
    clauses = []
    if BASE not in package.extras:
        clauses.append(" or ".join(f"'{extra}' in extras" for extra in sorted(package.extras)))
    if package.environments != set(LOCKED_FOR.environments):
        clauses.append(" or ".join(f"({marker_of(*environment)})" for environment in sorted(package.environments)))
    entry: dict[str, Any] = {"name": package.name, "version": package.version}
    if clauses:
        entry["marker"] = " and ".join(f"({clause})" for clause in clauses) if len(clauses) > 1 else clauses[0]
    if requires := sorted(package.requires & set(names)):
        entry["dependencies"] = [{"name": name} for name in requires]
    entry["wheels"] = [wheel for _, wheel in sorted(package.wheels.items())]
    if package.license:
        entry["tool"] = {"truecopy": package.license}
    return entry


def marker_of(python: str, machine: str) -> str:
    """Return the marker of an environment."""
    return f"python_version == '{python}' and platform_machine == '{machine}'"


def to_toml(document: Mapping[str, Any]) -> str:
    """Return a lock as TOML: its packages as an array of tables, everything within them inline."""
    head = "".join(f"{key} = {to_value(value)}\n" for key, value in document.items() if key not in {"packages", "tool"})
    packages = [
        "\n[[packages]]\n" + "".join(f"{key} = {to_value(value)}\n" for key, value in package.items())
        for package in document["packages"]
    ]
    tools = [
        f"\n[tool.{name}]\n" + "".join(f"{key} = {to_value(value)}\n" for key, value in table.items())
        for name, table in document["tool"].items()
    ]
    return "".join([head, *packages, *tools])


def to_value(value: Any) -> str:
    """Return strings, lists and tables as TOML; a list of tables has one of them per line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {to_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "[\n" + "".join(f"  {to_value(item)},\n" for item in value) + "]"
    # Strings and lists of strings: TOML's are JSON's.
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()

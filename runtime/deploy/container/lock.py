"""Locked packages of a container image, read from pylock.toml (PEP 751).

'scripts/lock' writes the file. It is for several Pythons and machines at once: ``select`` returns the packages that an
image with given extras needs in them.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runtime.errors import InputError

if TYPE_CHECKING:
    from packaging.markers import Marker
    from packaging.pylock import Package as PylockPackage
    from packaging.pylock import Pylock

FILE = Path(__file__).with_name("pylock.toml")

# An environment that the lock is for: a version of Python and a machine; the rest of it is Linux.
Environment = tuple[str, str]


class LockedFor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``tool.truecopy`` of the lock: the Pythons and machines that it is for."""

    pythons: tuple[str, ...]
    machines: tuple[str, ...]

    @property
    def environments(self) -> tuple[Environment, ...]:
        """Every pair of a Python and a machine."""
        return tuple((python, machine) for python in self.pythons for machine in self.machines)


class License(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``tool.truecopy`` of a package: its license as an SPDX expression, or as the package words it."""

    license_expression: str = ""
    license: str = ""


@dataclass(frozen=True, kw_only=True)
class Package:
    """One locked package.

    ``environments`` are those that need it, empty where all do. ``requires`` are names of packages; ``wheels`` are
    SHA-256 by file name.
    """

    name: str
    version: str
    license: License
    environments: Sequence[Environment]
    requires: Sequence[str]
    wheels: Mapping[str, str]

    def to_requirement(self) -> str:
        """Return the package as a line of pip's requirements, with a marker and hashes."""
        marker = " or ".join(
            f'(python_version == "{python}" and platform_machine == "{machine}")'
            for python, machine in self.environments
        )
        first = f"{self.name}=={self.version}" + (f" ; {marker}" if marker else "")
        return " \\\n    ".join([first, *(f"--hash=sha256:{digest}" for digest in sorted(set(self.wheels.values())))])


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock, and the Pythons and machines that it is for."""

    pylock: "Pylock"
    locked_for: LockedFor

    def select(self, extras: Iterable[str]) -> list[Package]:
        """Return the packages that truecopy with these extras needs, by name."""
        names = set(extras)
        selected = []
        for package in self.pylock.packages:
            environments = self._environments_of(package.marker, names)
            if environments:
                everywhere = environments == self.locked_for.environments
                selected.append(_to_package(package, () if everywhere else environments))
        return selected

    def _environments_of(self, marker: "Marker | None", extras: set[str]) -> tuple[Environment, ...]:
        return tuple(
            (python, machine)
            for python, machine in self.locked_for.environments
            if marker is None or marker.evaluate({**marker_variables(python, machine), "extras": extras}, "lock_file")
        )


def read_lock(path: Path = FILE) -> Lock:
    """Return the lock of this truecopy; raises InputError, with the command, where its reader is not installed."""
    try:
        from packaging.pylock import Pylock
    except ImportError as error:
        raise InputError(
            "deploy container: needs 'packaging' 26 or later to read its lock. Run: pip install 'truecopy[deploy]'"
        ) from error
    pylock = Pylock.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    return Lock(pylock=pylock, locked_for=msgspec.convert(_table(pylock.tool), LockedFor))


def direct_requirements(extras: Iterable[str]) -> list[str]:
    """Return the names of the packages that the installed truecopy requires itself, with these extras."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    requirements = [Requirement(text) for text in requires("truecopy") or ()]
    return sorted(
        {
            canonicalize_name(requirement.name)
            for requirement in requirements
            for extra in ("", *extras)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        }
    )


def _to_package(package: "PylockPackage", environments: Sequence[Environment]) -> Package:
    return Package(
        name=package.name,
        version=str(package.version),
        license=msgspec.convert(_table(package.tool), License),
        environments=environments,
        requires=[str(dependency["name"]) for dependency in package.dependencies or ()],
        wheels={wheel.filename: wheel.hashes["sha256"] for wheel in package.wheels or ()},
    )


def _table(tool: Mapping[str, Any] | None) -> Mapping[str, Any]:
    table: Mapping[str, Any] = (tool or {}).get("truecopy", {})
    return table


def marker_variables(python: str, machine: str) -> dict[str, str]:
    """Return the variables of markers in an environment that the lock is for."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }

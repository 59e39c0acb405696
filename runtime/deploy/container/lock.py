"""What a container installs: every package with its version and its wheels' SHA-256, as 'scripts/lock' writes it."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

_FILE = Path(__file__).with_name("locked.json")

# The part of truecopy that no extra is asked for.
_ITSELF = ""


class Package(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One package of the lock.

    ``parts`` are the extras of truecopy that bring it, the empty one standing for truecopy itself; ``where`` the
    (Python, machine)s that need it, none of them meaning all. ``wheels`` are SHA-256 by file name.
    """

    name: str
    version: str
    license_expression: str
    license: str
    parts: tuple[str, ...]
    where: tuple[tuple[str, str], ...]
    requires: tuple[str, ...]
    wheels: dict[str, str]

    def to_requirement(self) -> str:
        """Return it as pip's requirements have it, with hashes."""
        marker = " or ".join(
            f'(python_version == "{python}" and platform_machine == "{machine}")' for python, machine in self.where
        )
        first = f"{self.name}=={self.version}" + (f" ; {marker}" if marker else "")
        return " \\\n    ".join([first, *(f"--hash=sha256:{digest}" for digest in sorted(set(self.wheels.values())))])


class Lock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lock: the Pythons and machines that it is for, and the packages by name.

    ``direct`` are the packages that truecopy and each of its extras ask for themselves.
    """

    pythons: tuple[str, ...]
    machines: tuple[str, ...]
    direct: dict[str, tuple[str, ...]]
    packages: tuple[Package, ...]

    def select(self, extras: Iterable[str]) -> list[Package]:
        """Return the packages that truecopy with these extras needs."""
        wanted = {_ITSELF, *extras}
        return [package for package in self.packages if wanted & set(package.parts)]

    def direct_names(self, extras: Iterable[str]) -> list[str]:
        """Return the names of the packages that truecopy with these extras asks for itself."""
        return sorted({name for part in (_ITSELF, *extras) for name in self.direct[part]})


def read_lock() -> Lock:
    """Return the lock that came with this truecopy."""
    return msgspec.json.decode(_FILE.read_bytes(), type=Lock)

"""Version of the installed package."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def package_version() -> str:
    """Return truecopy's installed version; ``0`` where the source runs without being installed."""
    try:
        return version("truecopy")
    except PackageNotFoundError:
        return "0"

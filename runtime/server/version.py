"""Which truecopy this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

# One version an artifact: the protocol asks for versions, an artifact has none beside its own content.
VERSION = "1"


@cache
def server_version() -> str:
    """Return the installed version; ``0`` where the source runs without being installed."""
    try:
        return version("truecopy")
    except PackageNotFoundError:
        return "0"

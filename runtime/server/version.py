"""Version of the running server."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

# The protocol asks for a version per model. An artifact has none besides its content, so each is served as version 1.
MODEL_VERSION = "1"


@cache
def package_version() -> str:
    """Return the installed version of truecopy; ``0`` where the source runs without being installed."""
    try:
        return version("truecopy")
    except PackageNotFoundError:
        return "0"

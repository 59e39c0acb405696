"""Headers of a request, by name."""

from collections.abc import MutableMapping
from typing import Any

# The key of the headers by name in the ASGI scope.
_BY_NAME = "truecopy.headers"


def header(scope: MutableMapping[str, Any], name: bytes) -> str | None:
    """Return the value of the first header ``name``, in lower case, or None.

    Starlette's Headers encode the name and search the list for it, each time: a tenth of what a request costs beside
    its model.
    """
    by_name = scope.get(_BY_NAME)
    if by_name is None:
        by_name = scope[_BY_NAME] = dict(reversed(scope["headers"]))
    value: bytes | None = by_name.get(name)
    return None if value is None else value.decode("latin-1")

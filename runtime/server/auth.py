"""Bearer-token authentication."""

import hmac
import os
from pathlib import Path

from runtime.errors import InputError
from runtime.server.errors import TokenError

TOKEN_VARIABLE = "TRUECOPY_TOKEN"  # noqa: S105  # the name of the variable, not a token


class BearerAuth:
    """Bearer-token check; an empty token disables it."""

    def __init__(self, token: str = "") -> None:
        self._token = token.encode()

    @property
    def required(self) -> bool:
        """Whether requests need a token."""
        return bool(self._token)

    def check(self, authorization: str) -> None:
        """Raise TokenError unless ``authorization``, the value of that header, carries the token."""
        if not self._token:
            return
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(credentials.strip().encode(), self._token):
            raise TokenError("Authorization: missing or invalid bearer token. Send 'Bearer' and this server's token.")


def read_token(path: Path | None) -> str:
    """Return the token in file ``path``, or in the environment, or none.

    Raises InputError for an empty file.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    token = path.read_text(encoding="utf-8").strip()
    if not token:
        raise InputError(f"'{path}': empty; expected a token. Write one into it, or omit --token-file.")
    return token

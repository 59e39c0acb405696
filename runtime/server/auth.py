"""Who may ask, and under which name a request is known: the bearer token, request ids, trace contexts."""

import hmac
import os
import re
import secrets
import time
from pathlib import Path

from runtime.errors import InputError
from runtime.server.admission import RequestContext
from runtime.server.errors import TokenError

TOKEN_VARIABLE = "TRUECOPY_TOKEN"  # noqa: S105  # the name of the variable, not a token

# What may stand in a log line and in a header without escaping.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

# W3C Trace Context, version 00 and any later one that keeps its form.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class BearerAuth:
    """The token that requests must bring; none lets everyone in."""

    def __init__(self, token: str = "") -> None:
        self._token = token.encode()

    @property
    def wanted(self) -> bool:
        """Whether a token is wanted at all."""
        return bool(self._token)

    def check(self, authorization: str) -> None:
        """Raise TokenError unless ``authorization``, as in the header of that name, brings the token."""
        if not self._token:
            return
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            raise TokenError("Authorization: expected 'Bearer' and this server's token, got none or another. Send it.")

    def new_call(self, *, request_id: str, traceparent: str, deadline_s: float) -> RequestContext:
        """Return the call that a request is, under the id that it brought if that is fit to print."""
        now = time.monotonic()
        return RequestContext(
            request_id=request_id if _REQUEST_ID.fullmatch(request_id) else secrets.token_hex(8),
            traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else "",
            started=now,
            deadline=now + deadline_s,
        )


def read_token(path: Path | None) -> str:
    """Return the token in file ``path``, or in the environment, or none; raises InputError for an empty one."""
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    token = path.read_text(encoding="utf-8").strip()
    if not token:
        raise InputError(f"'{path}': empty: expected a token in it. Write one, or leave --token-file out.")
    return token

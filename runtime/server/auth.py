"""Bearer-token authentication."""

import hmac
import os
import ssl
from pathlib import Path

from runtime.errors import InputError
from runtime.server.errors import TokenError

TOKEN_VARIABLE = "TRUECOPY_TOKEN"  # noqa: S105  # the name of the variable, not a token

# Tokens and certificates take a few kilobytes; a device never ends.
_MOST_BYTES = 2**20


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

    The file may be a pipe. Raises InputError for one that cannot be read, is empty, too large, or no text.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        token = data.decode("utf-8").strip()
    except OSError as error:
        raise InputError(f"--token-file '{path}': cannot be read: {error.strerror}. Check the path.") from None
    except UnicodeDecodeError:
        raise InputError(f"--token-file '{path}': no text: expected UTF-8. Write a token into it.") from None
    if len(data) > _MOST_BYTES:
        raise InputError(f"--token-file '{path}': too large: expected at most {_MOST_BYTES} bytes. Check the path.")
    if not token:
        raise InputError(f"'{path}': empty; expected a token. Write one into it, or omit --token-file.")
    return token


def check_pem_file(path: Path, option: str) -> None:
    """Raise InputError, with the name of the option, unless ``path`` is a file of a certificate's or a key's size."""
    if not path.is_file():
        raise InputError(f"{option} '{path}': no such file: expected a PEM file. Check the path.")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(
            f"{option} '{path}': too large for a PEM file: expected at most {_MOST_BYTES} bytes, got "
            f"{path.stat().st_size}. Check the path."
        )


def check_key_pair(certificate: Path, key: Path) -> None:
    """Raise InputError unless the files are a certificate chain and its key, as PEM and without a password."""

    def refuse_password() -> str:
        raise InputError(
            f"--tls-key '{key}': has a password, which a server cannot ask for. Write the key without one: "
            "openssl pkey -in KEY -out NEW."
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except OSError as error:  # ssl's errors are some
        is_mismatch = "key values mismatch" in str(error)
        if not is_mismatch and getattr(error, "library", None) is None:
            problem = f"cannot be read: {error.strerror}. Check the paths and their permissions."
        elif is_mismatch:
            problem = "do not belong together. Pass the key of the first certificate in the chain, the server's own."
        else:
            problem = "not a certificate chain and its key as PEM. Pass files that begin with '-----BEGIN'."
        raise InputError(f"--tls-cert '{certificate}', --tls-key '{key}': {problem}") from None

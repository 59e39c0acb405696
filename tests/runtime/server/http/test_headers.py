"""Headers by name: the first of several counts, as in Starlette's own lookup."""

from starlette.requests import Request

from runtime.server.http.headers import header


def test_the_first_of_several_counts_and_none_is_none():
    scope = {"type": "http", "headers": [(b"accept", b"a/b"), (b"x", b"\xe4"), (b"accept", b"c/d"), (b"empty", b"")]}

    found = {name: header(scope, name) for name in (b"accept", b"x", b"empty", b"absent")}

    assert found == {b"accept": "a/b", b"x": "\xe4", b"empty": "", b"absent": None}
    assert all(value == Request(scope).headers.get(name.decode()) for name, value in found.items())

"""Reference of the errors and their statuses, from the classes and the front ends' tables."""

from collections.abc import Iterator

import exporter.errors
from maintenance.reference.markdown import code, first_sentence, to_table
from runtime.errors import TruecopyError
from runtime.server.errors import find_status
from runtime.server.grpc.statuses import STATUSES as GRPC_STATUSES
from runtime.server.http.statuses import STATUSES as HTTP_STATUSES

_ABOUT = """# Errors

Every message reads `<subject>: <problem>. <fix>.` The class says who can fix it.

On the command line an error is one line on stderr, `error: ...`, and exit status 1 (`truecopy diff`: 2). Wrong
options are exit status 2. `truecopy --debug COMMAND` prints the traceback. In Python, catch `truecopy.ModelError` for
the runtime and `truecopy.ExportError` for the exporter, or a subclass.
[Troubleshooting](../guides/troubleshooting.md) has the messages that people meet most.

"""
_SERVER = """
## On the server

A response has the status of the error's class, and the message as `{"error": "..."}` or as gRPC's details.

"""


def errors() -> str:
    """Return the page: one row per public error, and one per error of a request."""
    found = list(_subclasses(TruecopyError))
    public = [each for each in found if each.__module__ in (exporter.errors.__name__, "runtime.errors")]
    served = [each for each in found if not each.__module__.startswith("exporter")]
    return "".join(
        [
            _ABOUT,
            to_table(["error", "is a", "when"], [_row(each) for each in public]),
            _SERVER,
            to_table(
                ["error", "when", "HTTP", "gRPC"],
                [
                    [
                        code(each.__name__),
                        first_sentence(each.__doc__),
                        str(find_status(each.__new__(each), HTTP_STATUSES)),
                        find_status(each.__new__(each), GRPC_STATUSES).name,
                    ]
                    for each in served
                ],
            ),
        ]
    )


def _row(kind: type[TruecopyError]) -> list[str]:
    return [code(kind.__name__), code(kind.__bases__[0].__name__), first_sentence(kind.__doc__)]


def _subclasses(kind: type[TruecopyError]) -> Iterator[type[TruecopyError]]:
    """Return the classes below one, depth first, in the order of their definition."""
    yield kind
    for each in kind.__subclasses__():
        if not each.__name__.startswith("_"):
            yield from _subclasses(each)

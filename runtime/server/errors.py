"""What can go wrong between a request and its answer; each front end has one table from these to its statuses.

::

    ModelError
    ├── InputError
    │   ├── NotFoundError     no such model, version or path
    │   ├── MethodError       the path exists, for another method
    │   ├── MediaTypeError    a content type or encoding that is not taken
    │   ├── TooLargeError     more bytes or inputs than one request may hold
    │   └── TokenError        the bearer token is missing or wrong
    ├── BusyError
    │   ├── QueueFullError    refused at the door; says when to come again
    │   └── StoppingError     the server is not ready yet, or no longer
    └── LateError
        ├── DeadlineError     the deadline passed first
        └── ClientLeftError   nobody waits for the answer
"""

from runtime.errors import BusyError, InputError, ModelError


class NotFoundError(InputError):
    """There is no such model, version or path."""


class MethodError(InputError):
    """The path exists, for another method."""


class MediaTypeError(InputError):
    """The content type or encoding is not one that is taken."""


class TooLargeError(InputError):
    """The request holds more bytes or inputs than one request may."""


class TokenError(InputError):
    """The bearer token is missing or wrong."""


class QueueFullError(BusyError):
    """The request was refused at the door; ``retry_after_s`` says when there will be room, in seconds."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoppingError(BusyError):
    """The server takes no requests: it is not ready yet, or it is shutting down."""


class LateError(ModelError):
    """The answer would come too late to be of use."""


class DeadlineError(LateError):
    """The request's deadline passed before its answer was ready."""


class ClientLeftError(LateError):
    """The client closed its connection; its work is dropped."""

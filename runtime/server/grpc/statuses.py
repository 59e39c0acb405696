"""gRPC statuses of errors."""

from typing import TypeAlias

import grpc

from runtime.errors import ArtifactError, BusyError, DeviceError, InputError, ModelError, TruecopyError
from runtime.server import errors

Status: TypeAlias = grpc.StatusCode

# By class; the nearest base class counts. A test proves that the table covers every class.
STATUSES: dict[type[TruecopyError], Status] = {
    InputError: Status.INVALID_ARGUMENT,
    errors.TokenError: Status.UNAUTHENTICATED,
    errors.NotFoundError: Status.NOT_FOUND,
    errors.MethodError: Status.UNIMPLEMENTED,
    errors.TooLargeError: Status.INVALID_ARGUMENT,
    errors.MediaTypeError: Status.INVALID_ARGUMENT,
    BusyError: Status.RESOURCE_EXHAUSTED,
    errors.StoppingError: Status.UNAVAILABLE,
    errors.LateError: Status.DEADLINE_EXCEEDED,
    errors.ClientLeftError: Status.CANCELLED,
    ModelError: Status.INTERNAL,
    ArtifactError: Status.INTERNAL,
    DeviceError: Status.INTERNAL,
    TruecopyError: Status.INTERNAL,
}

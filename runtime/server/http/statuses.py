"""HTTP statuses of errors."""

from runtime.errors import ArtifactError, BusyError, DeviceError, InputError, ModelError, TruecopyError
from runtime.server import errors

# By class; the nearest base class counts. A test proves that the table covers every class.
STATUSES: dict[type[TruecopyError], int] = {
    InputError: 400,
    errors.TokenError: 401,
    errors.NotFoundError: 404,
    errors.MethodError: 405,
    errors.TooLargeError: 413,
    errors.MediaTypeError: 415,
    BusyError: 429,
    errors.StoppingError: 503,
    errors.LateError: 504,
    errors.ClientLeftError: 499,
    ModelError: 500,
    ArtifactError: 500,
    DeviceError: 500,
    TruecopyError: 500,
}

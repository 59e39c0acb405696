"""Claims of a request: the number, shapes and sizes of its tensors, checked before any is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from runtime.errors import InputError
from runtime.inputs.datatypes import BYTES, DTYPES
from runtime.server.open_inference.tensors import BF16, amount_error, check_datatype, count_elements

# Memory of one element of a BYTES tensor: a Python object, its place in an array and in a list.
_ELEMENT_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class TensorClaims:
    """What one request may claim of a model's tensors.

    ``names`` are those of the model's inputs. ``check_rows`` raises TooLargeError for more rows than one request may
    have, ``reserve`` for more bytes.
    """

    names: Sequence[str]
    check_rows: Callable[[int], None]
    reserve: Callable[[int], None]

    def check_count(self, tensors: int) -> None:
        """Raise InputError for more tensors than the model has inputs."""
        if tensors > len(self.names):
            raise InputError(
                f"inputs: too many tensors: expected {len(self.names)}, got {tensors}. Send the model's own: "
                f"{', '.join(repr(name) for name in self.names[:10])}."
            )

    def check_tensor(
        self, datatype: str, shape: Sequence[int], subject: str, *, most_elements: int, shared: bool
    ) -> None:
        """Check the datatype, the rows and the size that a tensor claims, and reserve its memory.

        ``most_elements`` is more than its data can have. ``shared`` says that numbers are used where they stand in the
        body.
        """
        check_datatype(datatype, subject)
        count = count_elements(shape, subject)
        if count > most_elements:
            raise amount_error(f"at most {most_elements}", count, shape, subject)
        self.check_rows(shape[0] if shape else 1)
        if datatype == BYTES:
            self.reserve(_ELEMENT_BYTES * count)
        elif not shared or datatype == BF16:
            self.reserve(count * (DTYPES[datatype] if datatype in DTYPES else np.dtype(np.float32)).itemsize)

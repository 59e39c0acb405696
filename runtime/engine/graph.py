"""Graphs in memory: what was verified is what onnxruntime gets, whatever happens to the files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.engine.onnx_reader import DTYPES, ExternalTensor, external_tensors
from runtime.errors import ArtifactError

# Numbers of TensorProto.DataType that numpy lacks, and how wide their values are.
_OTHER_TYPES = {16: "uint16", 17: "uint8", 18: "uint8", 19: "uint8", 20: "uint8"}


class StoredGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A verified graph and the weights that it reads, both in memory; several graphs may share ``weights``.

    ``path`` is where the graph was read from: for messages, and for execution providers that read files themselves.
    ``weights_file`` is the file that its tensors may lie in, and ``weights`` its bytes, aligned; it is None where
    they may lie in none. A variant's may also lie in ``shared_file``, fp32's, whose bytes are ``shared``. Of a
    ``mapped`` graph, both are the pages of those files, which a session on a CPU also maps: it then holds no copy but
    those that its kernels pack.
    ``check_unchanged`` raises ArtifactError where the files are no longer those that were verified.
    """

    path: Path
    data: bytes
    weights_file: str | None
    weights: NDArray[np.uint8]
    check_unchanged: Callable[[], None]
    mapped: bool = False
    shared_file: str | None = None
    shared: NDArray[np.uint8] | None = None

    def initializers(self) -> list[tuple[str, NDArray[Any], int]]:
        """Return name, values and ONNX type of each tensor that lies in the weights; the values are not copied.

        Those of types that numpy lacks are unsigned integers of the same width.

        Raises ArtifactError for a tensor in another file, beyond the end of the weights, or of an unknown type.
        """
        try:
            tensors = external_tensors(self.data, locations=(self.weights_file, self.shared_file))
            return [(tensor.name, self._values(tensor), tensor.kind) for tensor in tensors]
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            raise ArtifactError(
                f"'{self.path}': its tensors cannot be read: {str(error).rstrip('.')}. Do not use this artifact; "
                "export the model again."
            ) from error

    def _values(self, tensor: ExternalTensor) -> NDArray[Any]:
        dtype = np.dtype(DTYPES.get(tensor.kind) or _OTHER_TYPES.get(tensor.kind) or _unknown(tensor))
        size_bytes = dtype.itemsize
        for length in tensor.shape:
            size_bytes *= length
        end = tensor.offset + size_bytes
        weights = self.shared if self.shared is not None and tensor.location == self.shared_file else self.weights
        if tensor.length not in (None, size_bytes) or end > len(weights):
            raise ValueError(
                f"tensor '{tensor.name[:80]}' has other bytes than its shape says: expected {size_bytes} at "
                f"{tensor.offset} of {len(weights)}, got {tensor.length}"
            )
        return weights[tensor.offset : end].view(dtype).reshape(tensor.shape)


def _unknown(tensor: ExternalTensor) -> str:
    raise ValueError(f"tensor '{tensor.name[:80]}' is of the unknown type {tensor.kind}")

"""Runtime side of the task: result type and interpretation."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.outputs.interpreter import Interpreter


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """A vector, float32 [dimensions], of length one."""

    input: str
    vector: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        return {"input": self.input, "vector": self.vector.tolist()}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        return {"vector": self.vector}

    def __str__(self) -> str:
        return f"{self.input}: {len(self.vector)} dimensions"


class EmbedInterpreter(Interpreter):
    result_type = Embedding
    must_be_finite = True

    def interpret(self, scores: Any, *, name: str, top_k: int, threshold: float | None) -> Embedding:
        return Embedding(input=name, vector=scores)

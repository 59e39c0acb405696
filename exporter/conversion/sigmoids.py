"""Sigmoids whose values are outputs: onnxruntime's function has an absolute error, whatever the value."""

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

# The largest difference that onnxruntime's own sigmoid explains, of probabilities from 0 to 1. Measured with 1.31.1:
# 1.7e-7 over [-40, 40], at values near zero as at values near one.
SIGMOID_LIMIT = 5e-7

_SIGMOIDS = {torch.ops.aten.sigmoid, torch.ops.aten.sigmoid_, torch.ops.aten.special_expit}

# Operators that copy values as they are; views share the memory of their source and need no rule.
_COPIES = {
    *(torch.ops.aten.cat, torch.ops.aten.stack, torch.ops.aten.clone, torch.ops.aten._to_copy),
    *(torch.ops.aten.index, torch.ops.aten.index_select, torch.ops.aten.gather, torch.ops.aten.copy),
}


class SigmoidWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which PyTorch's operators are watched for the memory that sigmoids write."""

    supports_higher_order_operators = True  # such as torch.cond

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # The tensors are kept, so that no other tensor gets their memory.
        self._kept: list[torch.Tensor] = []
        self._starts: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        value = func(*args, **(kwargs or {}))
        if isinstance(value, torch.Tensor) and self._is_sigmoid(getattr(func, "overloadpacket", func), args):
            storage = value.untyped_storage()
            self._kept.append(value)
            self._starts[storage.data_ptr()] = storage.nbytes()
        return value

    def made(self, values: torch.Tensor | NDArray[Any]) -> bool:
        """Return whether all of ``values`` are in memory that a sigmoid, or a copy of one's values, wrote."""
        address = values.data_ptr() if isinstance(values, torch.Tensor) else values.__array_interface__["data"][0]
        return any(start <= address < start + size for start, size in self._starts.items())

    def names_made(self, arrays: Mapping[str, NDArray[Any]]) -> frozenset[str]:
        """Return the names of the arrays that ``made`` is true of."""
        return frozenset(name for name, array in arrays.items() if self.made(array))

    def _is_sigmoid(self, operator: Any, arguments: tuple[Any, ...]) -> bool:
        if operator in _SIGMOIDS:
            return True
        if operator not in _COPIES:
            return False
        sources = arguments[0] if isinstance(arguments[0], list | tuple) else arguments[:1]
        return all(isinstance(source, torch.Tensor) and self.made(source) for source in sources)

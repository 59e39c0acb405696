"""Arithmetic of whole-number tensors and Python numbers in the form that torch.onnx can follow, to the same values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# Where torch.onnx of torch 2.14.1 finds no overload, or no dtype, for a number beside a tensor of whole numbers: it
# fails at '1.0 - mask', '5 // ids' and 'ids // 2.0'.
_OPERATIONS = (
    *(torch.rsub, torch.Tensor.__rsub__),
    *(torch.floor_divide, torch.Tensor.floor_divide, torch.Tensor.__floordiv__, torch.Tensor.__rfloordiv__),
)

_NUMBERS = (int, float, torch.SymInt, torch.SymFloat)


class ConvertibleArithmetic(TorchFunctionMode):
    """Gives both operands the dtype in which torch computes them, as tensors, while a network is exported."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if func in _OPERATIONS and len(args) == 2 and _is_mixed(*args):
            dtype = torch.result_type(*args)
            args = tuple(_to(operand, dtype, device=args[0].device) for operand in args)
        return func(*args, **(kwargs or {}))


def _is_mixed(tensor: Any, number: Any) -> bool:
    """Return whether operands are a tensor of whole numbers and a Python number: others have a wider dtype inside."""
    if not isinstance(tensor, torch.Tensor) or not isinstance(number, _NUMBERS):
        return False
    return not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype is not torch.bool


def _to(operand: Any, dtype: torch.dtype, *, device: torch.device) -> torch.Tensor:
    if isinstance(operand, torch.Tensor):
        return operand.to(dtype)
    return torch.full((), operand, dtype=dtype, device=device)

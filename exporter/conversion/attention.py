"""Attention in the forms that torch.export and its conversion to ONNX can follow, without a change of values."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.nn.modules import transformer
from torch.overrides import TorchFunctionMode

_MASK_DETECTOR = "_detect_is_causal_mask"

# [batch, heads, length, width]: what onnxscript 0.7.2 translates, and nothing else.
_DIMENSIONS = 4


@contextlib.contextmanager
def convertible_attention() -> Iterator[None]:
    """Make attention of any number of dimensions convertible, while a network is exported.

    torch's transformer layers compare a mask with a causal one to choose a faster kernel
    (``torch.nn.modules.transformer``), which torch.export cannot follow; a mask that is not read is used as it is,
    which is the same arithmetic.
    """
    original = getattr(transformer, _MASK_DETECTOR, None)
    if original is not None:
        setattr(transformer, _MASK_DETECTOR, lambda _mask, is_causal=None, _size=None: is_causal is True)
    try:
        with _FourDimensions():
            yield
    finally:
        if original is not None:
            setattr(transformer, _MASK_DETECTOR, original)


class _FourDimensions(TorchFunctionMode):
    """Gives scaled dot-product attention its four dimensions, and its result those that it was called with."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if func is functional.scaled_dot_product_attention:
            return _attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attend(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *more: Any, **named: Any
) -> Any:
    attend = functional.scaled_dot_product_attention
    before = query.shape[:-2]
    alike = all(tensor.shape[:-2] == before for tensor in (key, value))
    if query.ndim == _DIMENSIONS or not alike:
        return attend(query, key, value, attn_mask, *more, **named)
    if attn_mask is not None and attn_mask.ndim > 2:
        attn_mask = _as_four(attn_mask.expand(*before, *attn_mask.shape[-2:]))
    result = attend(_as_four(query), _as_four(key), _as_four(value), attn_mask, *more, **named)
    return result.reshape(*before, *result.shape[-2:])


def _as_four(tensor: Tensor) -> Tensor:
    """Return a tensor whose dimensions before the last three are one; [length, width] and [batch, ...] get theirs."""
    if tensor.ndim < _DIMENSIONS:
        return tensor.reshape(*(1,) * (_DIMENSIONS - tensor.ndim), *tensor.shape)
    return tensor.flatten(0, tensor.ndim - _DIMENSIONS)

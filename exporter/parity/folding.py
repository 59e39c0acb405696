"""Layers and batch norms as a conversion folds them: scale and shift, and weights that a layer computes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

# What a batch norm counts while it is trained; evaluation does not look at it.
COUNTER = "num_batches_tracked"

# Layers that use their weights as they are; subclasses may do anything before.
PLAIN_LAYERS = (
    *(nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A batch norm in evaluation, ``x * scale + shift``; ``tensors`` are its names in the state dict."""

    scale: Array
    shift: Array
    tensors: tuple[str, ...]
    module: nn.modules.batchnorm._BatchNorm

    def folds(self, weight: Array, bias: Array | None, axis: int) -> Iterator[tuple[Array, Array]]:
        """Yield what a layer's weight and bias become, by the operations of either converter and in their order.

        They are onnxscript's ``FuseBatchNormIntoConv``, and ``fuse_conv_bn_weights``, which freezing TorchScript
        repeats; ``axis`` is that of the layer's outputs.
        """
        norm, size = self.module, weight.shape[axis]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance = norm.running_mean.detach().cpu(), norm.running_var.detach().cpu()
        gamma = torch.ones(size) if norm.weight is None else norm.weight.detach().cpu()
        beta = torch.zeros(size) if norm.bias is None else norm.bias.detach().cpu()
        own = np.zeros(size, dtype=weight.dtype) if bias is None else bias
        scale = gamma.numpy() / np.sqrt(variance.numpy() + norm.eps)
        shape = [-1 if dimension == axis else 1 for dimension in range(weight.ndim)]
        yield weight * scale.reshape(shape), (own - mean.numpy()) * scale + beta.numpy()
        with torch.no_grad():
            fused = fuse_conv_bn_weights(
                torch.from_numpy(weight),
                torch.from_numpy(own),
                mean,
                variance,
                norm.eps,
                gamma,
                beta,
                transpose=axis == 1,
            )
        yield fused[0].detach().numpy(), fused[1].detach().numpy()


def to_numpy(tensor: torch.Tensor) -> Array:
    """Return a tensor's values, bfloat16 as float32."""
    plain = tensor.detach().cpu()
    array: Array = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return array


def computed_weight(module: nn.Module) -> torch.Tensor | None:
    """Return the weight that a plain layer computes of parameters in every call; None where it is one itself."""
    if not isinstance(module, PLAIN_LAYERS) or "weight" in module._parameters:
        return None
    weight: torch.Tensor = module.weight
    with torch.no_grad():
        for hook in module._forward_pre_hooks.values():  # what a hook computes is that of the call before
            if isinstance(hook, WeightNorm):
                weight = hook.compute_weight(module)
            elif isinstance(hook, SpectralNorm):
                weight = hook.compute_weight(module, do_power_iteration=False)
    return weight


def norm_of(name: str, module: nn.Module) -> Norm | None:
    """Return a batch norm of a network as its scale and shift; None for any other module."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_var is None:
        return None
    assert module.running_mean is not None
    variance, mean = (to_numpy(tensor).astype(np.float64) for tensor in (module.running_var, module.running_mean))
    weight = 1.0 if module.weight is None else to_numpy(module.weight).astype(np.float64)
    bias = 0.0 if module.bias is None else to_numpy(module.bias).astype(np.float64)
    scale = weight / np.sqrt(variance + module.eps)
    tensors = tuple(f"{name}.{part}" if name else part for part in module.state_dict() if part != COUNTER)
    return Norm(scale=scale, shift=bias - mean * scale, tensors=tensors, module=module)

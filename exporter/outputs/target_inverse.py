"""Inverse transforms of a regression's target, in torch and in ONNX.

The formulas are scikit-learn's own: ``PowerTransformer.inverse_transform``, and numpy's functions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from exporter.conversion.node_builder import NodeBuilder
from runtime.manifest import Affine, InverseFunction, InverseStep

# scikit-learn takes a lambda nearer to 0 than this, where a power turns into a logarithm, for 0.
_NEAR = float(np.finfo(np.float64).eps)


def apply_inverse(steps: Sequence[InverseStep], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return targets in their own units, float64 [rows, values], for ``values`` as a network gives them."""
    targets: NDArray[np.float64] = inverse_module(steps)(torch.from_numpy(values)).numpy()
    return targets


def inverse_module(steps: Sequence[InverseStep]) -> nn.Module:
    """Return the steps as a module that TorchScript can compile: [batch, values] of float64 in and out."""
    return nn.Sequential(*(_Line(step) if isinstance(step, Affine) else _CURVES[step.function](step) for step in steps))


def is_exact(steps: Sequence[InverseStep]) -> bool:
    """Return whether the steps may run in float32: a power of it would lose digits."""
    return all(isinstance(step, Affine) for step in steps)


def inverse_nodes(nodes: NodeBuilder, steps: Sequence[InverseStep], values: str, *, output: str) -> None:
    """Append the steps for ``values``, float32 [batch, values]; ``output`` has the same type."""
    if is_exact(steps):
        for index, step in enumerate(steps):
            scale, offset = _affine_constants(nodes, step, index, dtype=np.float32)
            last = output if index == len(steps) - 1 else None
            values = nodes.add("Add", nodes.add("Mul", values, scale), offset, output=last)
        return
    values = nodes.cast(values, TensorProto.DOUBLE)
    for index, step in enumerate(steps):
        if isinstance(step, Affine):
            scale, offset = _affine_constants(nodes, step, index, dtype=np.float64)
            values = nodes.add("Add", nodes.add("Mul", values, scale), offset)
        else:
            values = _write_curve(nodes, step, values, index)
    nodes.add("Cast", values, to=TensorProto.FLOAT, output=output)


def _affine_constants(nodes: NodeBuilder, step: InverseStep, index: int, *, dtype: type) -> tuple[str, str]:
    """Return the names of the constants of an affine step: scale and offset."""
    assert isinstance(step, Affine)
    return (
        nodes.constant(f"undone_{index}/scale", np.array(step.scale, dtype=dtype)),
        nodes.constant(f"undone_{index}/offset", np.array(step.offset, dtype=dtype)),
    )


def _write_curve(nodes: NodeBuilder, step: InverseFunction, values: str, index: int) -> str:
    match step.function:
        case "exp":
            return nodes.add("Exp", values)
        case "expm1":
            return nodes.add("Sub", nodes.add("Exp", values), nodes.double(1.0))
        case "square":
            return nodes.add("Mul", values, values)
        case "box-cox":
            lambdas = np.array(step.lambdas)
            return _write_power(nodes, values, lambdas, f"undone_{index}")
        case "yeo-johnson":
            # The positive numbers by lambda, the negative ones by 2 - lambda, mirrored.
            lambdas = np.array(step.lambdas)
            zero, unit = nodes.double(0.0), nodes.double(1.0)
            above = nodes.add("Max", values, zero)
            below = nodes.add("Max", nodes.add("Neg", values), zero)
            up = nodes.add("Sub", _write_power(nodes, above, lambdas, f"undone_{index}/up"), unit)
            down = nodes.add("Sub", unit, _write_power(nodes, below, 2 - lambdas, f"undone_{index}/down"))
            return nodes.add("Where", nodes.add("Less", values, zero), down, up)


def _write_power(nodes: NodeBuilder, values: str, lambdas: NDArray[np.float64], name: str) -> str:
    """Append ``(values * lambda + 1) ** (1 / lambda)``, which is ``exp(values)`` where lambda is 0."""
    flat = np.abs(lambdas) < _NEAR
    safe = np.where(flat, 1.0, lambdas)
    line = nodes.add("Mul", values, nodes.constant(f"{name}/lambdas", safe))
    base = nodes.add("Add", line, nodes.double(1.0))
    power = nodes.add("Pow", base, nodes.constant(f"{name}/powers", 1 / safe))
    return nodes.add("Where", nodes.constant(f"{name}/flat", flat), nodes.add("Exp", values), power)


class _Line(nn.Module):
    def __init__(self, step: Affine) -> None:
        super().__init__()
        self.scale: Tensor
        self.offset: Tensor
        self.register_buffer("scale", torch.tensor(step.scale, dtype=torch.float64), persistent=False)
        self.register_buffer("offset", torch.tensor(step.offset, dtype=torch.float64), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        return values * self.scale + self.offset


class _Exponential(nn.Module):
    def __init__(self, _step: InverseFunction) -> None:
        super().__init__()

    def forward(self, values: Tensor) -> Tensor:
        return torch.exp(values)


class _ExponentialLessOne(nn.Module):
    def __init__(self, _step: InverseFunction) -> None:
        super().__init__()

    def forward(self, values: Tensor) -> Tensor:
        return torch.expm1(values)


class _Square(nn.Module):
    def __init__(self, _step: InverseFunction) -> None:
        super().__init__()

    def forward(self, values: Tensor) -> Tensor:
        return torch.square(values)


class _Power(nn.Module):
    """``(values * lambda + 1) ** (1 / lambda)``, which is ``exp(values)`` where lambda is 0."""

    def __init__(self, lambdas: Sequence[float]) -> None:
        super().__init__()
        powers = torch.tensor(lambdas, dtype=torch.float64)
        self.flat: Tensor
        self.lambdas: Tensor
        self.register_buffer("flat", powers.abs() < _NEAR, persistent=False)
        self.register_buffer("lambdas", torch.where(self.flat, torch.ones_like(powers), powers), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        return torch.where(self.flat, torch.exp(values), (values * self.lambdas + 1.0) ** (1.0 / self.lambdas))


class _BoxCox(nn.Module):
    def __init__(self, step: InverseFunction) -> None:
        super().__init__()
        self.power = _Power(step.lambdas)

    def forward(self, values: Tensor) -> Tensor:
        targets: Tensor = self.power(values)
        return targets


class _YeoJohnson(nn.Module):
    def __init__(self, step: InverseFunction) -> None:
        super().__init__()
        self.up = _Power(step.lambdas)
        self.down = _Power([2 - power for power in step.lambdas])

    def forward(self, values: Tensor) -> Tensor:
        up, down = self.up(torch.relu(values)) - 1.0, 1.0 - self.down(torch.relu(-values))
        return torch.where(values < 0, down, up)


_CURVES = {
    "exp": _Exponential,
    "expm1": _ExponentialLessOne,
    "square": _Square,
    "box-cox": _BoxCox,
    "yeo-johnson": _YeoJohnson,
}

"""Comparison of a network's weights with the constants of an artifact's file, one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import torch
from torch import nn

from exporter.parity.folding import COUNTER, PLAIN_LAYERS, Array, Norm, computed_weight, norm_of, to_numpy
from runtime.errors import listed
from runtime.evidence import Stage, WholeCheck

# Names before the network's own, where a graph has the network inside of something.
_PREFIXES = ("", "network.", "network/")

# Relative to the largest value: the roundings of a multiplication in float32, and of a root and a division before it.
_PRODUCT = 1e-5
_SCALE = 1e-4

# Weights that a sentence on those not compared names.
_NAMED = 3

_STAGE: Stage = "network"


@dataclass(kw_only=True)
class _Findings:
    """What was found of each tensor, by name: as it is, or in another form.

    ``folded`` are those that a batch norm explains up to rounding, ``replayed`` those that it explains to the last bit.
    """

    kept: set[str] = field(default_factory=set)
    other: set[str] = field(default_factory=set)
    folded: set[str] = field(default_factory=set)
    replayed: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def compare_weights(network: nn.Module, constants: Mapping[str, Array], path: str) -> tuple[WholeCheck, str]:
    """Return the check of every weight of the eager network in the file ``path``, and a sentence on those left out.

    ``constants`` are the file's, by name where it keeps names. A weight may be transposed, joined with others, or
    multiplied with the batch norm that follows it; what the conversion computed anything else of, or left out, is
    named in the sentence, which is empty where there is none.
    """
    comparison = _Comparison(network, constants)
    findings = comparison.run()
    sentence = ""
    if findings.folded:
        sentence = (
            f"{path}: the last bits of {len(findings.folded)} weights, as the conversion folds a batch norm into them: "
            f"equal up to {_PRODUCT:g}: {comparison.largest_of(findings.folded)}"
        )
    if findings.other:
        total = len(comparison.tensors)
        sentence += "; " if sentence else f"{path}: "
        sentence += (
            f"{len(findings.other)} of {total} weights, which the conversion computes others of or does not "
            f"use: {comparison.largest_of(findings.other)}"
        )
    check = WholeCheck(
        subject="weights",
        path=path,
        stage=_STAGE,
        count=len(findings.kept),
        fault="value" if findings.faults else None,
        finding="" if not findings.faults else f"the weights: {listed(findings.faults)}",
    )
    return check, sentence


class _Comparison:
    """One network's tensors, and the constants of one file."""

    def __init__(self, network: nn.Module, constants: Mapping[str, Array]) -> None:
        self.tensors = {
            name: to_numpy(tensor)
            for name, tensor in network.state_dict().items()
            if isinstance(tensor, torch.Tensor) and tensor.numel() and not name.endswith(COUNTER)
        }
        self._modules = dict(network.named_modules())
        self._norms = [norm for name, module in self._modules.items() if (norm := norm_of(name, module)) is not None]
        self._constants = constants
        self._by_size: dict[int, list[str]] = {}
        for name, array in constants.items():
            self._by_size.setdefault(array.size, []).append(name)
        self._used: set[str] = set()
        self._findings = _Findings()

    def run(self) -> _Findings:
        """Return what became of each tensor: first those that are there as they are, then what was made of others."""
        left = [name for name, tensor in self.tensors.items() if not self._is_kept(name, tensor)]
        # What a batch norm explains comes first, to the last bit and then up to rounding: its constants are no other
        # tensor's, and norms may have the same scale.
        unexplained = [name for name in left if self.tensors[name].ndim > 1]
        for exactly in (True, False):
            unexplained = [name for name in unexplained if not self._is_explained(name, exactly=exactly)]
        for name in unexplained:
            self._compare_changed(name, self.tensors[name])
        for name, module in self._modules.items():
            if (weight := computed_weight(module)) is not None:
                self._explain_bias(name, to_numpy(weight))
        for name in [name for name in left if self.tensors[name].ndim < 2]:
            self._compare_vector(name, self.tensors[name])
        findings = self._findings
        findings.other -= findings.kept
        if findings.replayed:  # one file is folded in one way
            findings.faults += [
                f"'{name}': not what folding its batch norm gives, in the last bits" for name in sorted(findings.folded)
            ]
            findings.folded.clear()
        return findings

    def largest_of(self, names: set[str]) -> str:
        """Return names for a sentence, those of the largest tensors first."""
        return listed(sorted(names, key=lambda name: (-self.tensors[name].size, name)), _NAMED)

    def _is_kept(self, name: str, tensor: Array) -> bool:
        named = self._named(name)
        candidates = [named] if named is not None else []
        candidates += [other for other in self._by_size.get(tensor.size, ()) if other != named]
        for other in candidates:
            if _is_same(tensor, self._constants[other]):
                self._used.add(other)
                self._findings.kept.add(name)
                return True
        return False

    def _is_explained(self, name: str, *, exactly: bool) -> bool:
        """Return whether a constant is a tensor of two or more dimensions with a batch norm folded into it."""
        for other in self._candidates(name):
            for axis, scale in _scales(self.tensors[name], self._constants[other]):
                if self._is_folded(name, scale, other, axis, exactly=exactly):
                    self._used.add(other)
                    return True
        return False

    def _compare_changed(self, name: str, tensor: Array) -> None:
        """Compare a tensor of two or more dimensions that is not there as it is, nor explained by a batch norm."""
        named, alike = self._named(name), self._candidates(name)
        scales = any(next(_scales(tensor, self._constants[other]), None) is not None for other in alike)
        if self._is_parametrization(name):
            self._findings.other.add(name)
            return
        if (rows := self._shared_rows(tensor)) is not None:
            self._add_rows(name, "row", *rows)
            return
        if not alike or (named is None and scales):
            self._findings.other.add(name)
            return
        difference = np.abs(self._constants[alike[0]].astype(np.float64).reshape(-1) - tensor.reshape(-1))
        count = int((difference > 0).sum())
        largest = f", by at most {difference.max():.3g}" if named is not None else ""
        self._findings.faults.append(f"'{name}': {count} of {tensor.size} numbers differ{largest}")

    def _explain_bias(self, layer: str, weight: Array) -> None:
        """Find the bias of a layer whose weight is computed, where a batch norm is folded into both."""
        alike = [other for other in self._by_size.get(weight.size, ()) if self._constants[other].shape == weight.shape]
        own = f"{layer}.bias".lstrip(".")
        for _, scale in (found for other in alike for found in _scales(weight, self._constants[other])):
            for norm in self._norms:
                fits = norm.scale.shape == scale.shape and _is_close(norm.scale, scale, _SCALE)
                if fits and (after := self._bias_after(own, norm)):
                    self._findings.kept.update({own} & self.tensors.keys(), norm.tensors)
                    self._used.add(after)
                    return

    def _compare_vector(self, name: str, tensor: Array) -> None:
        """Compare a tensor of one dimension, or a number, that is not there as it is."""
        if name in self._findings.kept or name in self._findings.other:
            return
        named = self._named(name)
        if named is None or self._constants[named].shape != tensor.shape or named in self._used:
            self._compare_gates(name, tensor)
            return
        difference = np.abs(self._constants[named].astype(np.float64) - tensor)
        self._findings.faults.append(
            f"'{name}': {int((difference > 0).sum())} of {tensor.size} numbers differ, by at most "
            f"{difference.max():.3g}"
        )

    def _compare_gates(self, name: str, tensor: Array) -> None:
        """Compare the bias of a recurrent layer, whose gates ONNX has in another order, beside its other biases."""
        layer = self._modules.get(name.rpartition(".")[0])
        width = layer.hidden_size if isinstance(layer, nn.RNNBase) else 0
        shared = self._shared_rows(tensor.reshape(-1, width), width) if width > 1 and not tensor.size % width else None
        if shared is None:
            self._findings.other.add(name)
        else:
            self._add_rows(name, "gate", *shared)

    def _add_rows(self, name: str, noun: str, wrong: int, first: int, total: int) -> None:
        if wrong:
            found = f"{wrong} of {total} {noun}s differ, the first is {noun} {first}"
            self._findings.faults.append(f"'{name}': {found}")
        else:
            self._findings.kept.add(name)

    def _is_parametrization(self, name: str) -> bool:
        """Return whether a layer computes its weight of a tensor, as weight and spectral norms do."""
        owner, _, attribute = name.rpartition(".")
        computed = type(self._modules.get(owner)) in PLAIN_LAYERS and attribute not in ("weight", "bias")
        return computed or "parametrizations" in name.split(".")

    def _named(self, name: str) -> str | None:
        return next((prefix + name for prefix in _PREFIXES if prefix + name in self._constants), None)

    def _candidates(self, name: str) -> list[str]:
        """Return the constants that a tensor may have become: the one of its name, where names are kept."""
        named = self._named(name)
        own_shape = named is not None and self._constants[named].shape == self.tensors[name].shape
        return [named] if named is not None and own_shape else self._alike(name)

    def _alike(self, name: str) -> list[str]:
        """Return the constants without a tensor of their own that a plain layer's weight may have become."""
        owner, _, attribute = name.rpartition(".")
        if attribute != "weight" or type(self._modules.get(owner)) not in PLAIN_LAYERS:
            return []
        tensor = self.tensors[name]
        return [
            other
            for other in self._by_size.get(tensor.size, ())
            if other not in self._used and self._constants[other].shape == tensor.shape
        ]

    def _is_folded(self, name: str, scale: Array, constant: str, axis: int, *, exactly: bool) -> bool:
        """Return whether a batch norm explains the scale of a layer's channels; its bias has to be there as well."""
        owner = name.rpartition(".")[0]
        bias = f"{owner}.bias" if owner else "bias"
        for norm in self._norms:
            if norm.scale.shape != scale.shape or not _is_close(norm.scale, scale, _SCALE):
                continue
            exact = any(
                _is_same(weight, self._constants[constant]) and self._is_there(shift)
                for weight, shift in norm.folds(self.tensors[name], self.tensors.get(bias), axis)
            )
            if exactly and not exact:
                continue
            after = self._bias_after(bias, norm)
            found = self._findings.kept if after else self._findings.other
            found.add(name)
            (self._findings.replayed if exact else self._findings.folded).add(name)
            found.update({bias} & self.tensors.keys(), norm.tensors)
            self._used.add(after)
            return True
        return False

    def _bias_after(self, bias: str, norm: Norm) -> str:
        """Return the constant that a layer's bias, none being zeros, becomes with a batch norm; empty if none is it."""
        expected = self.tensors.get(bias, np.zeros(1, dtype=np.float64)) * norm.scale + norm.shift
        return next((other for other in self._by_size.get(expected.size, ()) if self._is_bias(other, expected)), "")

    def _is_there(self, tensor: Array) -> bool:
        """Return whether a bias is a constant of the file; one of zeros is left out by the converter."""
        alike = (self._constants[other] for other in self._by_size.get(tensor.size, ()))
        return not tensor.any() or any(_is_same(tensor, other) for other in alike)

    def _is_bias(self, other: str, expected: Array) -> bool:
        array = self._constants[other]
        return array.dtype.kind == "f" and _is_close(array.reshape(-1), expected, _SCALE)

    def _shared_rows(self, tensor: Array, width: int = 0) -> tuple[int, int, int] | None:
        """Return how many rows of a matrix are in no constant that has others of them, the first one, and all.

        None where no constant has any, or the constant is too small to have all of them: a part of the matrix. With a
        ``width``, constants of any shape are taken as rows of that many numbers.
        """
        if tensor.dtype.kind != "f":
            return None
        for turned in (tensor, tensor.T) if tensor.ndim == 2 and not width else (tensor,):
            rows = _rows(turned)
            matrix = turned.reshape(-1, turned.shape[-1])
            # Rows of one number, such as zeros for padding, are in many constants.
            telling = np.flatnonzero((matrix != matrix[:, :1]).any(axis=1)).tolist()
            for constant in self._constants.values():
                array = constant.reshape(-1, width) if width and not constant.size % width else constant
                if array.ndim < 2 or array.shape[-1] != turned.shape[-1] or array.size < turned.size:
                    continue
                pool = set(_rows(array))
                missing = [index for index in telling if rows[index] not in pool]
                if len(missing) < len(telling):
                    return len(missing), missing[0] if missing else 0, len(rows)
        return None


def _is_same(tensor: Array, other: Array) -> bool:
    """Return whether arrays have the same bits in one order, or with their axes in another."""
    if tensor.dtype != other.dtype or tensor.size != other.size:
        return False
    # Compared as whole numbers, of which NaN equals itself, and nothing large is copied.
    one, two = _bits(tensor), _bits(other).reshape(-1)
    # In any order of the axes the first number stays the first, and the last one the last: few others pass.
    if one.size and any(one[(end,) * one.ndim] != two[end] for end in (0, -1)):
        return False
    if np.array_equal(one.reshape(-1), two):
        return True
    if not 2 <= tensor.ndim <= 4:
        return False
    return any(
        np.array_equal(turned := one.transpose(axes), two.reshape(turned.shape))
        for axes in list(permutations(range(tensor.ndim)))[1:]
    )


def _bits(array: Array) -> Array:
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "f" else array


def _scales(tensor: Array, other: Array) -> Iterator[tuple[int, Array]]:
    """Yield the axis and the factors of the channels, along the first or the second, that make one array the other."""
    if tensor.dtype.kind != "f" or tensor.shape != other.shape:
        return
    limit = _PRODUCT * float(np.abs(other).max())
    for axis in (0, 1):
        channels = [np.moveaxis(array, axis, 0) for array in (tensor, other)]
        # One channel shows most that are no multiples, without copies of the others.
        if _scale(channels[0][:1], channels[1][:1], limit) is None:
            continue
        scale = _scale(channels[0], channels[1], limit)
        if scale is not None:
            yield axis, scale


def _scale(tensor: Array, other: Array, limit: float) -> Array | None:
    """Return the factors of the channels, along the first axis, or None where no factors explain ``other``."""
    before, after = (array.reshape(len(array), -1).astype(np.float64) for array in (tensor, other))
    size = np.einsum("ij,ij->i", before, before)
    # A channel of zeros has any factor: NaN.
    product = np.einsum("ij,ij->i", before, after)
    scale: Array = np.where(size > 0, product / np.where(size > 0, size, 1.0), np.nan)
    before *= np.nan_to_num(scale)[:, np.newaxis]
    before -= after
    return scale if max(before.max(), -before.min()) <= limit else None


def _is_close(one: Array, other: Array, limit: float) -> bool:
    """Return whether numbers are equal but for ``limit``, relative to the largest; NaN in ``other`` is any number."""
    known = ~np.isnan(other)
    off = np.abs(one.astype(np.float64) - other)[known]
    return not off.size or bool(off.max() <= limit * float(np.abs(other[known]).max()))


def _rows(array: Array) -> Sequence[bytes]:
    rows = np.ascontiguousarray(array.reshape(-1, array.shape[-1]))
    return [row.tobytes() for row in rows]

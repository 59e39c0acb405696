"""Networks rebuilt from an architecture and a checkpoint, every key and shape accounted for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from exporter.architectures.heads import (
    LinearHead,
    UnknownHead,
    class_counts,
    find_head,
    input_channels,
    renamed_head,
    shape_differences,
)
from exporter.architectures.identify import identify
from exporter.architectures.keys import COUNTER, KeyMap, Shapes, solve_keys
from exporter.architectures.meta_models import build_skeleton, shapes_of
from exporter.architectures.registry import Architecture, Blueprint, build, resolve
from exporter.checkpoint import Checkpoint
from exporter.checkpoint.load import load_tensors
from exporter.errors import ArchitectureError
from runtime.errors import listed
from runtime.manifest import KeyTransform

# torch allocates tensors at multiples of this.
_ALIGNMENT_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class RebuiltNetwork:
    """A network in eval mode with the checkpoint's weights, and how it was made.

    ``torchvision_name`` is empty for architectures from other sources.
    """

    network: nn.Module
    reference: str
    arguments: Mapping[str, Any]
    torchvision_name: str
    keys: KeyTransform


@dataclass(frozen=True, kw_only=True)
class _RebuildPlan:
    """One way to fit: ``shapes`` are the checkpoint's by the network's keys, ``source_of`` the checkpoint's keys."""

    arguments: Mapping[str, Any]
    head: LinearHead | UnknownHead | None
    stem: tuple[str, int] | None
    key_map: KeyMap
    renamed: Mapping[str, str]
    shapes: Shapes
    source_of: Mapping[str, str]
    expected: Shapes
    tied: Mapping[str, str]

    @property
    def fits(self) -> bool:
        return not shape_differences({**self.shapes, **{key: self.expected[key] for key in self.tied}}, self.expected)

    @property
    def new_head(self) -> LinearHead | None:
        """The layer that replaces everything at its target; None where a layer of the architecture's is the head."""
        head = self.head
        if isinstance(head, LinearHead) and head.whole and f"{head.target}.weight" in self.expected:
            return head
        return None

    @property
    def matched(self) -> int:
        return sum(self.shapes.get(key) == shape for key, shape in self.expected.items())


def rebuild(
    architecture: Architecture, arguments: Mapping[str, Any], checkpoint: Checkpoint, *, trust: bool = False
) -> RebuiltNetwork:
    """Return the network, newly built, with all of the checkpoint's weights and nothing else.

    Prefixes are solved; for torchvision and timm the number of classes and input channels come from the tensors unless
    ``arguments`` gives them. Python code of a Hugging Face folder runs only if ``trust`` is true. Raises
    ArchitectureError when the architecture is unknown, does not build, or differs from the checkpoint in any key or
    shape.
    """
    blueprint = resolve(architecture, trust=trust)
    plan = _plan(blueprint, dict(arguments), checkpoint.shapes)
    if not plan.fits:
        raise ArchitectureError(_misfit(blueprint, plan, checkpoint))
    network = build(blueprint, plan.arguments)
    _resize(network, plan)
    keys = _load(network, plan, checkpoint, blueprint.reference)
    return RebuiltNetwork(
        network=network.eval().requires_grad_(False),
        reference=blueprint.reference,
        arguments=plan.arguments,
        torchvision_name=blueprint.torchvision_name,
        keys=keys,
    )


def _plan(blueprint: Blueprint, arguments: Mapping[str, Any], shapes: Shapes) -> _RebuildPlan:
    """Return the first way that fits, or else the one that fits the most."""
    best: _RebuildPlan | None = None
    for plan in _plans(blueprint, arguments, shapes):
        if best is None or plan.matched > best.matched or plan.fits:
            best = plan
        if plan.fits:
            break
    assert best is not None
    return best


def _plans(blueprint: Blueprint, arguments: Mapping[str, Any], shapes: Shapes) -> Iterator[_RebuildPlan]:
    for variant in blueprint.variants:
        own = {**variant, **arguments}
        plain = _fit(blueprint, own, shapes)
        yield plain
        if plain.fits or not (blueprint.resizable or blueprint.classes):
            continue
        head, stem = plain.head, plain.stem
        sizes: dict[str, Any] = {}
        if stem and blueprint.channels and blueprint.channels not in arguments:
            sizes[blueprint.channels], stem = stem[1], None
        counts: list[int | None] = [None]
        if blueprint.classes and blueprint.classes not in arguments:
            if isinstance(head, LinearHead):
                counts = [None] if head.whole else [head.out_features]
            else:
                counts = [*class_counts(plain.shapes, plain.expected)] or [None]
            if blueprint.channels:
                # timm builds any model without its head, and some without unless told.
                new = shape_differences(plain.shapes, plain.expected).unexpected
                counts += sorted({plain.shapes[key][0] for key in new if plain.shapes[key]})[:4] or [0]
        for count in counts:
            sized = {**own, **sizes} | ({blueprint.classes: count} if count is not None else {})
            yield _fit(blueprint, sized, shapes, head=head if blueprint.resizable else None, stem=stem)


def _fit(
    blueprint: Blueprint,
    arguments: Mapping[str, Any],
    shapes: Shapes,
    *,
    head: LinearHead | UnknownHead | None = None,
    stem: tuple[str, int] | None = None,
) -> _RebuildPlan:
    """Compare the checkpoint with the network of these arguments, its head and stem replaced where given."""
    try:
        skeleton = build_skeleton(blueprint.build, arguments)
    except Exception:  # building it for real says what is wrong
        skeleton = build(blueprint, arguments)
    if not isinstance(skeleton, nn.Module):  # the user's factory gives something else
        build(blueprint, arguments)
    expected = shapes_of(skeleton)
    tied_keys = _tied_keys(skeleton)
    key_map = solve_keys(shapes, expected, rename=blueprint.rename)
    moved = key_map.apply(shapes)
    if stem is not None:
        expected[stem[0]] = (expected[stem[0]][0], stem[1], *expected[stem[0]][2:])
    detected = head or find_head(moved, expected)
    renamed: Mapping[str, str] = {}
    if isinstance(head, LinearHead):
        moved, renamed = renamed_head(head, moved)
        if head.whole:
            expected = {key: shape for key, shape in expected.items() if not key.startswith(f"{head.target}.")}
            expected[f"{head.target}.weight"] = (head.out_features, head.in_features)
            if head.bias:
                expected[f"{head.target}.bias"] = (head.out_features,)
    tied = {key: twin for key, twin in tied_keys.items() if key in expected and key not in moved and twin in moved}
    return _RebuildPlan(
        arguments=arguments,
        head=detected,
        stem=stem or input_channels(moved, expected),
        key_map=key_map,
        renamed=renamed,
        shapes=moved,
        source_of={renamed.get(new, new): old for new, old in key_map.source_of.items()},
        expected=expected,
        tied=tied,
    )


def _tied_keys(network: nn.Module) -> dict[str, str]:
    """Return the keys that share a tensor with another key: safetensors keeps only one of them."""
    groups: dict[int, list[str]] = {}
    for key, parameter in network.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(key)
    return {
        key: next(other for other in keys if other != key) for keys in groups.values() if len(keys) > 1 for key in keys
    }


def _resize(network: nn.Module, plan: _RebuildPlan) -> None:
    """Replace the head and the stem where the plan says so."""
    head = plan.new_head
    if head is not None:
        parent, _, name = head.target.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Linear(head.in_features, head.out_features, bias=head.bias))
    if plan.stem is None:
        return
    path, channels = plan.stem[0].removesuffix(".weight"), plan.stem[1]
    old = network.get_submodule(path)
    if not isinstance(old, nn.Conv2d | nn.Conv3d) or old.in_channels == channels:
        return
    parent, _, name = path.rpartition(".")
    new = type(old)(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # two or three lengths, as in the one that it replaces
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    setattr(network.get_submodule(parent), name, new)


def _load(network: nn.Module, plan: _RebuildPlan, checkpoint: Checkpoint, reference: str) -> KeyTransform:
    tensors = load_tensors(checkpoint)
    # Updated in place, as its metadata tells torchvision's mnasnet which version of itself it loads.
    state = network.state_dict()
    counters, cast = 0, set()
    for key, target in list(state.items()):
        if key in plan.source_of:
            tensor = tensors[plan.source_of[key]]
            if tensor.dtype != target.dtype:
                if tensor.is_floating_point() != target.is_floating_point() or tensor.is_complex():
                    raise ArchitectureError(
                        f"'{checkpoint.path}': '{key}' has another kind of values: expected {_name(target.dtype)}, got "
                        f"{_name(tensor.dtype)}. Name the architecture that was trained."
                    )
                cast.add(_name(tensor.dtype))
            state[key] = tensor.to(target.dtype)
        elif key in plan.tied:
            state[key] = tensors[plan.source_of[plan.tied[key]]].to(target.dtype)
        elif key.endswith(COUNTER):
            state[key] = torch.zeros_like(target)
            counters += 1
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ArchitectureError(
            f"'{checkpoint.path}': '{reference}' does not take its own tensors: {error}. Report its state_dict hooks."
        ) from error
    _check_loaded(network, state, checkpoint, reference)
    _share(network, state)
    return KeyTransform(
        dropped=plan.key_map.dropped,
        removed_prefix=plan.key_map.removed_prefix,
        added_prefix=plan.key_map.added_prefix,
        renamed={**plan.key_map.renamed, **plan.renamed},
        replaced=_replaced(plan),
        tied=dict(plan.tied),
        filled_counters=counters,
        cast_from=tuple(sorted(cast)),
    )


def _check_loaded(network: nn.Module, expected: Mapping[str, Any], checkpoint: Checkpoint, reference: str) -> None:
    """Raise ArchitectureError unless the network now holds every tensor, value for value.

    A tensor that the network uses twice cannot hold two values; a module may also change what it loads.
    """
    loaded = network.state_dict()
    changed = [
        f"'{key}' {list(tensor.shape)}" for key, tensor in expected.items() if not _equal(loaded.get(key), tensor)
    ]
    if changed:
        raise ArchitectureError(
            f"'{checkpoint.path}': '{reference}' does not keep {len(changed)} of its tensors: expected the file's "
            f"values, got others ({listed(changed)}). It shares a tensor between keys, or changes what it loads. "
            "Name the architecture that was trained."
        )


def _share(network: nn.Module, tensors: Mapping[str, Any]) -> None:
    """Let the network use the checkpoint's mapped pages, and free its own copies of the same values.

    Networks of one checkpoint then share its memory, and what one of them writes is not seen by another. Tensors of
    another layout than the network's stay copies: kernels may add in another order there.
    """
    for key, target in network.state_dict(keep_vars=True).items():
        tensor = tensors[key]
        if (
            isinstance(target, torch.Tensor)
            and target.layout is torch.strided
            and (tensor.dtype, tensor.stride()) == (target.dtype, target.stride())
            and tensor.data_ptr() % _ALIGNMENT_BYTES == 0
        ):
            target.data = tensor


def _equal(tensor: object, other: object) -> bool:
    if not isinstance(tensor, torch.Tensor) or not isinstance(other, torch.Tensor):
        return True  # a module's own extra state
    return torch.equal(tensor, other) or torch.equal(tensor.nan_to_num(0.125), other.nan_to_num(0.125))


def _replaced(plan: _RebuildPlan) -> dict[str, str]:
    replaced = {}
    head = plan.new_head
    if head is not None:
        bias = "" if head.bias else ", bias=False"
        replaced[head.target] = f"Linear({head.in_features}, {head.out_features}{bias})"
    if plan.stem is not None:
        replaced[plan.stem[0].removesuffix(".weight")] = f"{plan.stem[1]} input channels"
    return replaced


def _misfit(blueprint: Blueprint, plan: _RebuildPlan, checkpoint: Checkpoint) -> str:
    if isinstance(plan.head, UnknownHead):
        layers = ", ".join(f"'{layer}' {list(plan.shapes.get(f'{layer}.weight', ()))}" for layer in plan.head.layers)
        return (
            f"'{checkpoint.path}': has another head than '{blueprint.reference}': expected one layer at "
            f"'{plan.head.target}', got {layers}, and the weights cannot tell what is between them. "
            "Write the network as a class in a file of yours and pass --arch FILE.py:NAME."
        )
    difference = shape_differences(plan.shapes, plan.expected)
    missing = [f"'{key}' {list(plan.expected[key])}" for key in difference.missing if key not in plan.tied]
    unexpected = [f"'{key}' {list(plan.shapes[key])}" for key in difference.unexpected]
    reshaped = [
        f"'{key}' expected {list(plan.expected[key])}, got {list(plan.shapes[key])}" for key in difference.reshaped
    ]
    lists = [
        f"{name} {len(keys)} ({listed(keys)})"
        for name, keys in (("missing", missing), ("unexpected", unexpected), ("other shape", reshaped))
        if keys
    ]
    return (
        f"'{checkpoint.path}': does not fit '{blueprint.reference}': expected {len(plan.expected)} tensors, "
        f"{plan.matched} match: {'; '.join(lists)}. {_nearest(checkpoint, blueprint.reference)}"
        "Name the architecture that was trained, or correct its --arch-arg."
    )


def _nearest(checkpoint: Checkpoint, named: str) -> str:
    fits = [fit for fit in identify(checkpoint.shapes) if fit.architecture != named]
    names = [f"'{fit.architecture}'" for fit in fits if fit.exact][:3]
    if names:
        return f"These tensors fit {' or '.join(names)}. "
    if fits and fits[0].matched > fits[0].total // 2:
        return f"The nearest is '{fits[0].architecture}', {fits[0].matched} of {fits[0].total} tensors. "
    return ""


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

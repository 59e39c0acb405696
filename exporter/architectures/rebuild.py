"""Networks rebuilt from an architecture and a checkpoint, every key and shape accounted for."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from exporter.architectures.keys import COUNTER, KeyMap
from exporter.architectures.misfit import describe_misfit
from exporter.architectures.own_loading import find_own_map, load_by_itself
from exporter.architectures.plan import RebuildPlan, plan_rebuild
from exporter.architectures.recorded_arguments import lightning_arguments, suggest_arguments
from exporter.architectures.registry import Architecture, InDictionary, MovedBatch, build, dictionary_keys, resolve
from exporter.checkpoint import Checkpoint
from exporter.checkpoint.ignored_keys import check_patterns_used
from exporter.checkpoint.load import load_extra_state, load_tensors
from exporter.errors import ArchitectureError
from runtime.errors import listed
from runtime.manifest import KeyTransform

_HALVES = ("float16", "bfloat16")

# torch allocates tensors at multiples of this.
_ALIGNMENT_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class RebuiltNetwork:
    """A network in eval mode with the checkpoint's weights, and how it was made.

    ``torchvision_name`` is empty for architectures from other sources. The network uses the memory-mapped pages of
    ``checkpoint``'s files, which are not to change as long as it runs.
    """

    checkpoint: Checkpoint
    network: nn.Module
    reference: str
    arguments: Mapping[str, Any]
    torchvision_name: str
    keys: KeyTransform

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Sentences on what the network computes otherwise than where it was trained, perhaps."""
        halves = [name for name in self.keys.cast_from if name in _HALVES]
        return tuple(
            f"the network in {name}, as its checkpoint has it: it was run and exported in float32" for name in halves
        )


def rebuild(
    architecture: Architecture,
    arguments: Mapping[str, Any],
    checkpoint: Checkpoint,
    *,
    trust: bool = False,
    batch_axes: Mapping[str, int] = MappingProxyType({}),
) -> RebuiltNetwork:
    """Return the network, newly built, with all of the checkpoint's weights and nothing else.

    Prefixes are solved; for torchvision and timm the number of classes and input channels come from the tensors unless
    ``arguments`` gives them; a LightningModule gets the arguments that its checkpoint records. ``batch_axes`` are the
    batch's dimensions in all its inputs, by name, where one is not the first. Python code of a Hugging Face folder runs
    only if ``trust`` is true. Raises ArchitectureError when the architecture is unknown, does not build, or differs
    from the checkpoint in any key or shape.
    """
    blueprint = resolve(architecture, trust=trust)
    recorded = lightning_arguments(blueprint.build, checkpoint.settings)
    try:
        plan = plan_rebuild(blueprint, {**recorded, **arguments}, checkpoint)
    except ArchitectureError as error:
        options = suggest_arguments(blueprint.build, {**recorded, **arguments}, checkpoint.settings)
        if not options:
            raise
        raise ArchitectureError(f"{error} The checkpoint records arguments: {options}.") from error
    own_map = None if plan.fits else find_own_map(blueprint.build, plan.arguments, checkpoint)
    if not plan.fits and own_map is None:
        raise ArchitectureError(describe_misfit(blueprint, plan, checkpoint))
    left_out = (*checkpoint.ignored, *plan.kept)
    check_patterns_used(checkpoint.ignore_keys, left_out, checkpoint.shapes, str(checkpoint.path))
    network = build(blueprint, plan.arguments)
    if own_map is not None:
        keys = _load_by_itself(network, own_map, checkpoint, blueprint.reference)
    else:
        _resize(network, plan)
        keys = _load(network, plan, checkpoint, blueprint.reference)
    keys_of_input = dictionary_keys(network)
    if len(keys_of_input) == 1:
        network = InDictionary(network, keys_of_input[0])
    if batch_axes:
        network = MovedBatch(network, batch_axes)
    return RebuiltNetwork(
        checkpoint=checkpoint,
        network=network.eval().requires_grad_(False),
        reference=blueprint.reference,
        arguments=plan.arguments,
        torchvision_name=blueprint.torchvision_name,
        keys=keys,
    )


def _resize(network: nn.Module, plan: RebuildPlan) -> None:
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


def _load(network: nn.Module, plan: RebuildPlan, checkpoint: Checkpoint, reference: str) -> KeyTransform:
    tensors = load_tensors(checkpoint)
    # Updated in place, as its metadata tells torchvision's mnasnet which version of itself it loads.
    state = network.state_dict()
    counters, cast = 0, set()
    for key, target in list(state.items()):
        if plan.source_of.get(key) in checkpoint.extra_state:
            state[key] = load_extra_state(checkpoint, plan.source_of[key])
        elif key in plan.source_of:
            tensor = tensors[plan.source_of[key]]
            if tensor.dtype != target.dtype:
                if not _can_cast(tensor, target):
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
    except Exception as error:  # a module's own set_extra_state may raise anything
        raise ArchitectureError(
            f"'{checkpoint.path}': '{reference}' does not take its own tensors: {type(error).__name__}: {error}. "
            "Correct its hooks of the state dict."
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
        ignored=(*checkpoint.ignored, *plan.kept),
    )


def _load_by_itself(network: nn.Module, key_map: KeyMap, checkpoint: Checkpoint, reference: str) -> KeyTransform:
    try:
        own = load_by_itself(network, key_map, checkpoint)
    except Exception as error:  # the network's own hooks may raise anything
        raise ArchitectureError(
            f"'{checkpoint.path}': '{reference}' fails to load it by its own hooks: {type(error).__name__}: {error}. "
            "Correct its hooks of the state dict."
        ) from error
    dtypes = {value.dtype for value in network.state_dict().values() if isinstance(value, torch.Tensor)}
    return KeyTransform(
        dropped=key_map.dropped,
        removed_prefix=key_map.removed_prefix,
        added_prefix="",
        renamed={**key_map.renamed, **own.renamed},
        replaced={},
        tied={},
        filled_counters=0,
        cast_from=tuple(name for name in checkpoint.dtypes if getattr(torch, name) not in dtypes),
        converted=own.converted,
        ignored=checkpoint.ignored,
    )


def _can_cast(tensor: torch.Tensor, target: torch.Tensor) -> bool:
    """Return whether a tensor is of the same kind of numbers, or of whole ones where whole ones belong."""
    if tensor.is_complex() or target.is_complex():
        return False
    if tensor.is_floating_point() == target.is_floating_point():
        return True
    return tensor.is_floating_point() and torch.equal(tensor.to(target.dtype).to(tensor.dtype), tensor)


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


def _replaced(plan: RebuildPlan) -> dict[str, str]:
    replaced = {}
    head = plan.new_head
    if head is not None:
        bias = "" if head.bias else ", bias=False"
        replaced[head.target] = f"Linear({head.in_features}, {head.out_features}{bias})"
    if plan.stem is not None:
        replaced[plan.stem[0].removesuffix(".weight")] = f"{plan.stem[1]} input channels"
    return replaced


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

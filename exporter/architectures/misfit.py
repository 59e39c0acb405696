"""Messages for checkpoints that do not fit an architecture."""

import re
from collections.abc import Sequence
from pathlib import Path

from exporter.architectures.heads import ShapeDifferences, UnknownHead, shape_differences
from exporter.architectures.identify import identify
from exporter.architectures.plan import RebuildPlan
from exporter.architectures.recorded_arguments import suggest_arguments
from exporter.architectures.registry import Blueprint
from exporter.checkpoint import Checkpoint
from exporter.checkpoint.ignored_keys import ignore_options
from runtime.errors import listed

# What FSDP calls its parameters, which are pieces of all layers in one.
_FLAT = {"flat_param", "_flat_param"}

# What weight_norm, spectral_norm and torch.nn.utils.parametrize keep in place of a weight.
_COMPUTED = re.compile(r"\.parametrizations\.|weight_(?:g|v|orig)$")

# The number of files of a sharded checkpoint, in the name of each.
_SHARD = re.compile(r"-\d+-of-0*(\d+)\.")


def describe_misfit(blueprint: Blueprint, plan: RebuildPlan, checkpoint: Checkpoint) -> str:
    """Return the message for a checkpoint that a plan does not fit: what differs, and what to do about it."""
    reference = blueprint.reference
    if blueprint.converts is not None and any(map(blueprint.converts, checkpoint.shapes)):
        return (
            f"'{checkpoint.path}': does not fit '{reference}' as it is: transformers merges or splits its tensors when "
            f"it loads them. Save what it has loaded, with {blueprint.save_converted}, and export that file."
        )
    if any(".lora_" in key for key in checkpoint.shapes):
        return (
            f"'{checkpoint.path}': does not fit '{reference}': it has the adapters of LoRA beside their layers. Merge "
            "them where it was trained: torch.save(model.merge_and_unload().state_dict(), 'merged.pth')."
        )
    if isinstance(plan.head, UnknownHead):
        layers = ", ".join(f"'{layer}' {list(plan.shapes.get(f'{layer}.weight', ()))}" for layer in plan.head.layers)
        return (
            f"'{checkpoint.path}': has another head than '{reference}': expected one layer at "
            f"'{plan.head.target}', got {layers}, and the weights cannot tell what is between them. "
            "Write the network as a class in a file of yours and pass --arch FILE.py:NAME."
        )
    difference = shape_differences(plan.shapes, plan.expected)
    missing = [f"'{key}' {list(plan.expected[key])}" for key in difference.missing if key not in plan.tied]
    unexpected = [f"'{key}' {list(plan.shapes[key])}" for key in difference.unexpected]
    reshaped = [
        f"'{key}' expected {list(plan.expected[key])}, got {list(plan.shapes[key])}" for key in difference.reshaped
    ]
    recorded = suggest_arguments(blueprint.build, plan.arguments, checkpoint.settings)
    lists = [
        f"{name} {len(keys)} ({listed(keys)})"
        for name, keys in (("missing", missing), ("unexpected", unexpected), ("other shape", reshaped))
        if keys
    ]
    return (
        f"'{checkpoint.path}': does not fit '{reference}': expected {len(plan.expected)} tensors, "
        f"{plan.matched} match: {'; '.join(lists)}. {_nearest(checkpoint, reference)}"
        f"{_advice(plan, difference, checkpoint.path, recorded)}"
    )


def _advice(plan: RebuildPlan, difference: ShapeDifferences, path: Path, recorded: str) -> str:
    """Return what to do where a checkpoint does not fit; ``recorded`` are arguments that it has itself, as options."""
    missing = [key for key in difference.missing if key not in plan.tied]
    if any(key.rpartition(".")[2] in _FLAT for key in difference.unexpected):
        return (
            "It is what one rank of FSDP holds. Save the whole where it was trained: torch.save(get_model_state_dict("
            "model, options=StateDictOptions(full_state_dict=True)), 'weights.pth'), of "
            "torch.distributed.checkpoint.state_dict."
        )
    if not difference.reshaped and not missing:
        return (
            "If the outputs do not depend on them, as on a loss's weights, leave them out: "
            f"{_ignoring(difference.unexpected, plan)}. Otherwise name the architecture that was trained."
        )
    if not difference.reshaped and not difference.unexpected and plan.buffers.issuperset(missing):
        return (
            "Buffers alone are missing: if the constructor fills them as in training, keep those: "
            f"{_ignoring(missing, plan)}. Otherwise name the architecture that was trained."
        )
    shard = _SHARD.search(path.name)
    if missing and shard is not None:
        return f"It is one of {int(shard[1])} files of a checkpoint. Pass the folder with all of them, '{path.parent}'."
    computed = next((key for key in difference.unexpected if _COMPUTED.search(key)), None)
    if missing and computed is not None:
        return (
            f"'{computed}' is what a layer computes its weight of: the network that was trained applies weight_norm, "
            "spectral_norm or another parametrization. Apply it in the constructor as well."
        )
    if recorded:
        # Keys of a loss may differ as well.
        extra = [key for key in difference.unexpected if not missing]
        ignored = f" {_ignoring(extra, plan)}" if extra else ""
        return f"The checkpoint records other arguments: pass {recorded}{ignored}."
    return "Name the architecture that was trained, or correct its --arch-arg."


def _ignoring(keys: Sequence[str], plan: RebuildPlan) -> str:
    """Return the options that leave out these keys of the network's, by the checkpoint's own names."""
    known = {plan.source_of.get(key, key) for key in (*plan.expected, *plan.shapes)}
    return ignore_options([plan.source_of.get(key, key) for key in keys], known)


def _nearest(checkpoint: Checkpoint, named: str) -> str:
    fits = [fit for fit in identify(checkpoint.shapes) if fit.architecture != named]
    names = [f"'{fit.architecture}'" for fit in fits if fit.exact][:3]
    if names:
        return f"These tensors fit {' or '.join(names)}. "
    if fits and fits[0].matched > fits[0].total // 2:
        return f"The nearest is '{fits[0].architecture}', {fits[0].matched} of {fits[0].total} tensors. "
    return ""

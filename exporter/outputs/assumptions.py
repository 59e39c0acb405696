"""Assumptions about a network's outputs, in sentences."""

from collections.abc import Iterator

from exporter.options.task import TaskOptions
from exporter.outputs.postprocessing import Postprocessing
from runtime.manifest import Affine

_STATED = "stated by options, not compared with training code"


def output_assumptions(options: TaskOptions, postprocessing: Postprocessing) -> Iterator[str]:
    """Yield what of the outputs' meaning no code of training was compared with."""
    for activation in dict.fromkeys(part.activation for part in postprocessing.parts):
        if activation in ("softmax", "sigmoid", "binary"):
            added = "sigmoid" if activation == "binary" else activation
            yield f"that the network gives logits, so that a {added} follows: assumed, as none look like probabilities"
    for thresholds in dict.fromkeys(getattr(part.task, "thresholds", ()) for part in postprocessing.parts):
        if thresholds:
            own = f"the thresholds: {_STATED}" if options.thresholds else "the thresholds: assumed"
            yield f"{own}, {', '.join(f'{threshold:g}' for threshold in dict.fromkeys(thresholds))}"
    if options.heads:
        yield f"which of the network's outputs are which heads: {_STATED}"
    steps = options.target_transform if isinstance(options.target_transform, tuple) else ()
    named = len(steps) == 1 and not isinstance(steps[0], Affine) and not steps[0].lambdas
    if options.target_mean or options.target_std or named:
        yield f"what undoes the target's transform: {_STATED}"
    if options.end_id is not None:
        yield f"the end token {options.end_id}: {_STATED}"

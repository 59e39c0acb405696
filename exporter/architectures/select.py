"""Choice of an architecture for a checkpoint without --arch."""

import torch

from exporter.architectures.identify import Fit, cannot_tell, identify, identify_part
from exporter.architectures.rebuild import rebuild
from exporter.architectures.registry import Architecture
from exporter.checkpoint import Checkpoint
from exporter.checkpoint.ignored_keys import ignore_options
from exporter.errors import ArchitectureError
from runtime.errors import listed

# More than this many are not built to be compared.
_COMPARED = 4
_PROBE = (2, 224, 224)


def choose_architecture(checkpoint: Checkpoint) -> tuple[Architecture, dict[str, object], str]:
    """Return the architecture that fits, the arguments it needs, and the reason.

    Where several fit, they are built and compared on one input: equal outputs make them one. Raises ArchitectureError
    when none fits, or several do that differ.
    """
    if checkpoint.module is not None:
        return checkpoint.module, {}, "the pickled module itself"
    fits = identify(checkpoint.shapes)
    exact = [fit for fit in fits if fit.exact]
    if not exact:
        part, left_out = identify_part(checkpoint.shapes)
        if part:
            fitting = listed([f"'{fit.architecture}'" for fit in part])
            raise ArchitectureError(
                f"'{checkpoint.path}': no known architecture fits all of it: {fitting} "
                f"{'fits' if len(part) == 1 else 'fit'} all tensors but {listed([repr(key) for key in left_out])}. If "
                f"the outputs do not depend on them, leave them out: --arch {part[0].architecture} "
                f"{ignore_options(left_out, checkpoint.shapes)}."
            )
        near = ", ".join(f"'{fit.architecture}' ({fit.matched} of {fit.total} tensors)" for fit in fits[:3])
        raise ArchitectureError(
            f"'{checkpoint.path}': no known architecture fits: expected all tensors of one, got "
            f"{f'at best {near}' if near else 'none of them'}. Pass the one that was trained with --arch."
        )
    chosen = exact[0]
    if len(exact) == 1:
        return chosen.architecture, dict(chosen.arguments), "the only known architecture that fits"
    if len(exact) <= _COMPARED and _same_outputs(exact, checkpoint):
        others = ", ".join(fit.architecture for fit in exact[1:])
        return (
            chosen.architecture,
            dict(chosen.arguments),
            f"fits; {others} fits as well, with equal outputs on a probe",
        )
    names = listed([f"'{fit.architecture}'" for fit in exact])
    unknown = ", ".join(cannot_tell(exact)) or "what else their code does"
    raise ArchitectureError(
        f"'{checkpoint.path}': several architectures fit: expected one, got {names}. The weights cannot tell their "
        f"{unknown}. Name the one that was trained with --arch."
    )


def _same_outputs(fits: list[Fit], checkpoint: Checkpoint) -> bool:
    """Return whether all of ``fits`` give equal outputs; a network that cannot take the probe counts as different."""
    channels = fits[0].in_channels or 3
    probe = torch.rand((_PROBE[0], channels, *_PROBE[1:]), generator=torch.Generator().manual_seed(0)) * 2 - 1
    first: torch.Tensor | None = None
    for fit in fits:
        network = rebuild(fit.architecture, fit.arguments, checkpoint).network
        try:
            with torch.no_grad():
                logits = network(probe)
        except Exception:  # it needs another input, so it is another network
            return False
        if not isinstance(logits, torch.Tensor) or not torch.isfinite(logits).all():
            return False
        if first is None:
            first = logits
        elif first.shape != logits.shape or not torch.allclose(first, logits, rtol=1e-5, atol=1e-6):
            return False
    # Weights without signal would make any two equal.
    return first is not None and bool((first[0] - first[1]).abs().max() > 1e-5)

"""The verdict that the rows of a comparison give."""

from collections.abc import Sequence

import msgspec

from exporter.parity.noise import SIGNAL_OF_LIMIT, varies
from runtime.evidence import STAGES, Evidence, Noise, Row, Verdict

# The group of rows on what is compared as a whole: they name the cause of what inputs show.
WHOLE = "compared whole"

# How the reason begins where scores vary, and roundings move them as well: by this share of what inputs do.
SENSITIVE = "the eager model's scores jump by roundings alone"
_SENSITIVE_SHARE = 0.03
_VISIBLE_SHARE = 1e-3


def judge(evidence: Evidence, *, random: str = "") -> Evidence:
    """Return the evidence with the verdict that its rows give; ``random`` is why nothing could be compared at all."""
    faults = [index for index, row in enumerate(evidence.rows) if not row.passed]
    first = min(faults, key=lambda index: _order(evidence.rows[index]), default=None)
    verdict: Verdict = "passed"
    reason = ""
    if random:
        verdict, reason = "inconclusive", random
    elif first is not None:
        row = evidence.rows[first]
        on = f"{row.path} on {row.device}" if row.device != "cpu" else row.path
        shown_by = f", input '{row.worst_input}'" if row.planned else ""
        verdict, reason = "failed", f"{on}, stage '{row.stage}'{shown_by}: {row.finding}"
    else:
        outputs = [noise for noise in evidence.noise if noise.stage == "end to end"]
        # A saturated softmax or sigmoid gives every input the same scores: its logits then tell.
        if not evidence.rows or not any(map(varies, (*outputs, *logits_of(evidence.noise)))):
            verdict = "inconclusive"
            best = max(outputs, key=lambda noise: noise.signal)
            problem = SENSITIVE if is_sensitive(best) else "the eager model gives every input the same scores"
            reason = (
                f"{problem}: expected some output to vary by more than {max(SIGNAL_OF_LIMIT * best.limit, 0.0):.1e}, "
                f"got '{best.tensor}' by {best.signal:.1e}{_advice(best)}"
            )
    return msgspec.structs.replace(evidence, verdict=verdict, reason=reason, first_fault=first)


def is_sensitive(noise: Noise) -> bool:
    """Return whether an output does vary over the inputs, and as much by roundings alone."""
    moved = max((value for value in (noise.precision, noise.threads) if value is not None), default=0.0)
    return noise.signal > _VISIBLE_SHARE * noise.size and moved > _SENSITIVE_SHARE * noise.signal


def _order(row: Row) -> tuple[int, bool]:
    return STAGES.index(row.stage), row.group != WHOLE


def logits_of(noise: Sequence[Noise]) -> list[Noise]:
    """Return the network's own outputs, where something is computed of them."""
    outputs = {entry.tensor for entry in noise if entry.stage == "end to end"}
    return [entry for entry in noise if entry.stage == "network" and entry.tensor not in outputs]


def _advice(noise: Noise) -> str:
    if "sigmoid" not in noise.note:
        return ""
    return f" ({noise.note}; drop it from the forward: --task multilabel adds one, and its logits are compared)"

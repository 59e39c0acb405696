"""What happened to a model's requests, counted once and read by the protocol's statistics and by Triton's counters."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

_NS = 1_000_000_000


@dataclass(kw_only=True)
class Duration:
    """How often something was done, and for how long in all, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count it ``count`` times, ``seconds`` in all."""
        self.count += count
        self.ns += int(seconds * _NS)

    def to_dict(self) -> dict[str, int]:
        """Return it as the protocol writes it."""
        return {"count": self.count, "ns": self.ns}


@dataclass(kw_only=True)
class Statistics:
    """The counts of one model, over all its loads; changed by the event loop's thread alone.

    ``compute_input`` is decoding and geometry, ``compute_infer`` the network, ``compute_output`` reading the scores.
    """

    last_inference_ms: int = 0
    inferences: int = 0
    executions: float = 0.0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, tuple[Duration, Duration, Duration]] = field(
        default_factory=lambda: defaultdict(lambda: (Duration(), Duration(), Duration()))
    )

    def add_job(self, seconds: dict[str, float], *, batch: int, inputs: int) -> None:
        """Count ``inputs`` that were answered in a run of ``batch`` inputs, all their own or shared with others."""
        self.last_inference_ms = int(time.time() * 1000)
        self.inferences += inputs
        # Requests that share a run arrive here one by one, and so does their share of it.
        share = inputs / batch
        self.executions += share
        prepare = seconds["decode"] + seconds["geometry"]
        self.queue.add(seconds["queue"], inputs)
        self.compute_input.add(prepare, inputs)
        self.compute_infer.add(seconds["network"] * share, inputs)
        of_batch = self.batches[batch]
        of_batch[0].add(prepare, inputs)
        of_batch[1].add(seconds["network"] * share, inputs)

    def to_dict(self, name: str, version: str) -> dict[str, Any]:
        """Return the entry of ``model_stats`` that the protocol has for it."""
        nothing = Duration().to_dict()
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference_ms,
            "inference_count": self.inferences,
            "execution_count": round(self.executions),
            "inference_stats": {
                "success": self.success.to_dict(),
                "fail": self.fail.to_dict(),
                "queue": self.queue.to_dict(),
                "compute_input": self.compute_input.to_dict(),
                "compute_infer": self.compute_infer.to_dict(),
                "compute_output": self.compute_output.to_dict(),
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": parts[0].to_dict(),
                    "compute_infer": parts[1].to_dict(),
                    "compute_output": parts[2].to_dict(),
                }
                for size, parts in sorted(self.batches.items())
            ],
        }

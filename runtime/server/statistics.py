"""Inference statistics per model, for the protocol's statistics and Triton's counters."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

_NS = 1_000_000_000


@dataclass(kw_only=True)
class Duration:
    """The count of an operation and its total time, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count the operation ``count`` times, with ``seconds`` in total."""
        self.count += count
        self.ns += int(seconds * _NS)

    def to_dict(self) -> dict[str, int]:
        """Return the count and the time as the protocol has them."""
        return {"count": self.count, "ns": self.ns}


@dataclass(kw_only=True)
class Statistics:
    """The counts of one model, over all its reloads; only the event loop's thread changes them.

    ``compute_input`` is decoding and geometry, ``compute_infer`` the network, ``compute_output`` the interpretation of
    the scores. ``batches`` has the last three by batch size.
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

    def add_job(self, seconds: dict[str, float], *, batch_size: int, inputs: int) -> None:
        """Count ``inputs`` that ran in a batch of ``batch_size`` inputs, those of other requests included."""
        self.last_inference_ms = int(time.time() * 1000)
        self.inferences += inputs
        # Requests that share a run are counted here one by one, each with its share of the run.
        share = inputs / batch_size
        self.executions += share
        prepare = seconds["decode"] + seconds["geometry"]
        self.queue.add(seconds["queue"], inputs)
        self.compute_input.add(prepare, inputs)
        self.compute_infer.add(seconds["network"] * share, inputs)
        compute_input, compute_infer, _ = self.batches[batch_size]
        compute_input.add(prepare, inputs)
        compute_infer.add(seconds["network"] * share, inputs)

    def to_dict(self, name: str, version: str) -> dict[str, Any]:
        """Return the protocol's ``model_stats`` entry for the model ``name``."""
        none = Duration().to_dict()
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
                "cache_hit": none,
                "cache_miss": none,
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

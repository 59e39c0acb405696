"""What Prometheus reads: Triton's counters by their own names, histograms of every stage, and who was turned away."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from runtime.server.jobs import STAGES
from runtime.server.statistics import Statistics
from runtime.server.version import VERSION

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Triton's names end without '_total', which prometheus_client always adds: these lines are written here.
_TRITON = {
    "nv_inference_request_success": "Number of successful inference requests, all batch sizes",
    "nv_inference_request_failure": "Number of failed inference requests, all batch sizes",
    "nv_inference_count": "Number of inferences performed",
    "nv_inference_exec_count": "Number of model executions performed",
    "nv_inference_request_duration_us": "Cumulative inference request duration in microseconds",
    "nv_inference_queue_duration_us": "Cumulative inference queuing duration in microseconds",
    "nv_inference_compute_input_duration_us": "Cumulative compute input duration in microseconds",
    "nv_inference_compute_infer_duration_us": "Cumulative compute inference duration in microseconds",
    "nv_inference_compute_output_duration_us": "Cumulative inference compute output duration in microseconds",
}


class Metrics:
    """The registry of one server; nothing is shared with other servers of the process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._stages = {
            stage: Histogram(
                f"truecopy_{stage}_seconds",
                f"Seconds that an input spent in the stage '{stage}'",
                ["model"],
                buckets=_SECONDS,
                registry=self._registry,
            )
            for stage in STAGES
        }
        self._requests = Histogram(
            "truecopy_request_seconds",
            "Seconds from a request's first byte to its answer",
            ["front", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "truecopy_batch_size", "Inputs in one run", ["model"], buckets=_SIZES, registry=self._registry
        )
        self._rejected = Counter(
            "truecopy_rejected", "Requests turned away, by reason", ["reason"], registry=self._registry
        )
        self._reloads = Counter(
            "truecopy_reloads", "Artifacts loaded again, by outcome", ["model", "outcome"], registry=self._registry
        )
        # Looking up a labelled child costs more than counting in it.
        self._of_model: dict[str, tuple[list[tuple[str, Histogram]], Histogram]] = {}
        self._of_status: dict[tuple[str, str], Histogram] = {}
        self.inputs_in_flight = Gauge("truecopy_inputs_in_flight", "Inputs that wait or run", registry=self._registry)
        self.body_bytes = Gauge("truecopy_body_bytes", "Bytes of bodies that are held", registry=self._registry)

    def add_job(self, model: str, seconds: Mapping[str, float], *, batch: int) -> None:
        """Observe inputs that were answered together."""
        children = self._of_model.get(model)
        if children is None:
            children = [(stage, self._stages[stage].labels(model)) for stage in STAGES], self._batches.labels(model)
            self._of_model[model] = children
        stages, batches = children
        for stage, histogram in stages:
            histogram.observe(seconds[stage])
        batches.observe(batch)

    def add_request(self, front: str, status: str, seconds: float) -> None:
        """Observe one request of the front end ``front``."""
        histogram = self._of_status.get((front, status))
        if histogram is None:
            histogram = self._of_status[front, status] = self._requests.labels(front, status)
        histogram.observe(seconds)

    def add_rejection(self, reason: str) -> None:
        """Count a request that got no answer, by the name of its error."""
        self._rejected.labels(reason).inc()

    def add_reload(self, model: str, outcome: str) -> None:
        """Count an artifact that was loaded again: ``swapped`` or ``kept``."""
        self._reloads.labels(model, outcome).inc()

    def to_text(self, statistics: Mapping[str, Statistics], waiting: int) -> bytes:
        """Return the page that Prometheus reads."""
        lines = []
        for name, text in _TRITON.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
            for model, counted in statistics.items():
                value = _triton_values(counted)[name]
                lines.append(f'{name}{{model="{_escape(model)}",version="{VERSION}"}} {value}')
        lines += [
            "# HELP nv_inference_pending_request_count Instantaneous number of pending requests awaiting execution",
            "# TYPE nv_inference_pending_request_count gauge",
            f"nv_inference_pending_request_count {waiting}",
            "",
        ]
        return "\n".join(lines).encode() + generate_latest(self._registry)


def _triton_values(counted: Statistics) -> dict[str, int]:
    return {
        "nv_inference_request_success": counted.success.count,
        "nv_inference_request_failure": counted.fail.count,
        "nv_inference_count": counted.inferences,
        "nv_inference_exec_count": round(counted.executions),
        "nv_inference_request_duration_us": (counted.success.ns + counted.fail.ns) // 1000,
        "nv_inference_queue_duration_us": counted.queue.ns // 1000,
        "nv_inference_compute_input_duration_us": counted.compute_input.ns // 1000,
        "nv_inference_compute_infer_duration_us": counted.compute_infer.ns // 1000,
        "nv_inference_compute_output_duration_us": counted.compute_output.ns // 1000,
    }


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

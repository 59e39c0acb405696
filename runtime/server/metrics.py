"""Prometheus metrics: Triton's counters, histograms of every stage, rejections and reloads."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from runtime.server.jobs import STAGES
from runtime.server.statistics import Statistics
from runtime.server.version import MODEL_VERSION

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Triton's names end without '_total', which prometheus_client always adds: their lines are written here.
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
    """The metrics of one server; servers in one process share none."""

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
            "Seconds from a request's first byte to its response",
            ["front", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "truecopy_batch_size", "Inputs in one run", ["model"], buckets=_SIZES, registry=self._registry
        )
        self._rejected = Counter(
            "truecopy_rejected", "Requests rejected, by reason", ["reason"], registry=self._registry
        )
        self._rows = Counter(
            "truecopy_rows",
            "Rows of variants, by the precision that computed them",
            ["model", "precision"],
            registry=self._registry,
        )
        self._reloads = Counter(
            "truecopy_reloads", "Artifacts reloaded, by outcome", ["model", "outcome"], registry=self._registry
        )
        # Looking up a labeled child costs more than counting in it.
        self._by_model: dict[str, tuple[list[tuple[str, Histogram]], Histogram]] = {}
        self._by_status: dict[tuple[str, str], Histogram] = {}
        self.inputs_in_flight = Gauge(
            "truecopy_inputs_in_flight", "Runs of a model that wait or are in progress", registry=self._registry
        )
        self.body_bytes = Gauge(
            "truecopy_body_bytes", "Bytes of request bodies that are buffered", registry=self._registry
        )

    def add_job(self, model: str, seconds: Mapping[str, float], *, batch_size: int) -> None:
        """Observe a job that ran in a batch of ``batch_size`` inputs."""
        children = self._by_model.get(model)
        if children is None:
            children = [(stage, self._stages[stage].labels(model)) for stage in STAGES], self._batches.labels(model)
            self._by_model[model] = children
        stages, batches = children
        for stage, histogram in stages:
            histogram.observe(seconds[stage])
        batches.observe(batch_size)

    def add_rows(self, model: str, precisions: Mapping[str, int]) -> None:
        """Count rows of a model by the precision that computed them; those of fp32 alone have none."""
        for precision, count in precisions.items():
            self._rows.labels(model, precision).inc(count)

    def add_request(self, transport: str, status: str, seconds: float) -> None:
        """Observe one request; ``transport`` is ``http`` or ``grpc``."""
        histogram = self._by_status.get((transport, status))
        if histogram is None:
            histogram = self._by_status[transport, status] = self._requests.labels(transport, status)
        histogram.observe(seconds)

    def add_rejection(self, reason: str) -> None:
        """Count a request that failed with one of our errors, by the name of its class."""
        self._rejected.labels(reason).inc()

    def add_reload(self, model: str, outcome: str) -> None:
        """Count an attempt to reload an artifact: ``swapped`` where the new one serves, ``kept`` where it failed."""
        self._reloads.labels(model, outcome).inc()

    def to_text(self, statistics: Mapping[str, Statistics], waiting: int) -> bytes:
        """Return all metrics in Prometheus' text format."""
        lines = []
        for name, text in _TRITON.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
            for model, model_statistics in statistics.items():
                value = _triton_values(model_statistics)[name]
                lines.append(f'{name}{{model="{_escape(model)}",version="{MODEL_VERSION}"}} {value}')
        lines += [
            "# HELP nv_inference_pending_request_count Instantaneous number of pending requests awaiting execution",
            "# TYPE nv_inference_pending_request_count gauge",
            f"nv_inference_pending_request_count {waiting}",
            "",
        ]
        return "\n".join(lines).encode() + generate_latest(self._registry)


def _triton_values(statistics: Statistics) -> dict[str, int]:
    return {
        "nv_inference_request_success": statistics.success.count,
        "nv_inference_request_failure": statistics.fail.count,
        "nv_inference_count": statistics.inferences,
        "nv_inference_exec_count": round(statistics.executions),
        "nv_inference_request_duration_us": (statistics.success.ns + statistics.fail.ns) // 1000,
        "nv_inference_queue_duration_us": statistics.queue.ns // 1000,
        "nv_inference_compute_input_duration_us": statistics.compute_input.ns // 1000,
        "nv_inference_compute_infer_duration_us": statistics.compute_infer.ns // 1000,
        "nv_inference_compute_output_duration_us": statistics.compute_output.ns // 1000,
    }


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""Prometheus metrics: Triton's counters, histograms of every stage, rejections and reloads."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

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


class _Histogram:
    """How many values fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Histograms(Collector):
    """The histograms of one name, by the values of their labels.

    prometheus_client's own take a lock and six calls per value: a third of what a request costs beside its model.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._bounds = bounds
        self._by_labels: dict[tuple[str, ...], _Histogram] = {}

    def labels(self, *values: str) -> _Histogram:
        """Return the histogram of these values of the labels."""
        histogram = self._by_labels.get(values)
        if histogram is None:
            histogram = self._by_labels[values] = _Histogram(self._bounds)
        return histogram

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Return the histograms as the registry takes them."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for values, histogram in self._by_labels.items():
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            family.add_metric(values, buckets=buckets, sum_value=histogram.total)
        yield family


class Metrics:
    """The metrics of one server; servers in one process share none. Only the event loop's thread changes them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._stages = [
            self._histograms(
                f"truecopy_{stage}_seconds", f"Seconds that an input spent in the stage '{stage}'", ["model"], _SECONDS
            )
            for stage in STAGES
        ]
        self._requests = self._histograms(
            "truecopy_request_seconds",
            "Seconds from a request's first byte to its response",
            ["front", "status"],
            _SECONDS,
        )
        self._batches = self._histograms("truecopy_batch_size", "Inputs in one run", ["model"], _SIZES)
        # By model, what each of its jobs is added to: the histograms of the stages, and that of the batches.
        self._of_models: dict[str, tuple[dict[str, _Histogram], _Histogram]] = {}
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
        self.inputs_in_flight = Gauge(
            "truecopy_inputs_in_flight", "Runs of a model that wait or are in progress", registry=self._registry
        )
        self.body_bytes = Gauge(
            "truecopy_body_bytes", "Bytes of request bodies that are buffered", registry=self._registry
        )

    def add_job(self, model: str, seconds: Mapping[str, float], *, batch_size: int) -> None:
        """Observe a job that ran in a batch of ``batch_size`` inputs."""
        if model not in self._of_models:
            stages = {stage: each.labels(model) for stage, each in zip(STAGES, self._stages, strict=True)}
            self._of_models[model] = (stages, self._batches.labels(model))
        by_stage, batches = self._of_models[model]
        for stage, histogram in by_stage.items():
            histogram.observe(seconds[stage])
        batches.observe(batch_size)

    def add_row(self, model: str, precision: str) -> None:
        """Count a row of a model by the precision that computed it; rows of fp32 alone are not counted."""
        self._rows.labels(model, precision).inc()

    def add_request(self, transport: str, status: str, seconds: float) -> None:
        """Observe one request; ``transport`` is ``http`` or ``grpc``."""
        self._requests.labels(transport, status).observe(seconds)

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

    def _histograms(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> _Histograms:
        histograms = _Histograms(name, text, labels, bounds)
        self._registry.register(histograms)
        return histograms


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

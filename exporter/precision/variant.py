"""A variant of an artifact: made, measured, and written into it, or refused with the reason."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import onnx
import onnxruntime

from exporter.bundle import Staging
from exporter.errors import ExportError, ParityError
from exporter.options.variant import MIN_AGREEMENT
from exporter.precision.accuracy import measure_accuracy, read_uncalibrated
from exporter.precision.data import Arrays, PreparedSource, SplitData, digest_arrays, read_data
from exporter.precision.deferral import (
    BatchSpeed,
    deferred_rows,
    largest_flipped_margin,
    measure_batches,
    measure_deferral,
)
from exporter.precision.flips import Flip, draw_flips, flips_of
from exporter.precision.graphs import read_network, write_graphs
from exporter.precision.int8 import QuantizedNetwork
from exporter.precision.page import MeasuredVariant, write_page
from exporter.precision.scores import Comparison, check_task, compare_scores
from exporter.precision.search import HalfSearch, NodeCost, ProductSearch, Search, StaticSearch, Trial
from exporter.progress import Progress
from runtime.artifact.difference import largest_difference
from runtime.artifact.golden import golden_outputs_to_npz, read_golden
from runtime.artifact.open import Artifact
from runtime.engine.cpu import has_fast_int8
from runtime.manifest import (
    FULL_PRECISION,
    LEAST_SPEED,
    Agreement,
    Approximation,
    Manifest,
    Variant,
    VariantGolden,
)
from runtime.model import Model
from runtime.verify import verify

Precision: TypeAlias = Literal["int8", "fp16"]

# Kinds of input whose networks are mostly matrix products.
_PRODUCT_KINDS = frozenset({"text", "tokens"})

# Another machine may round where this one does not: limits are this many times as far as two ways to compute here.
_OTHER_MACHINES = 4.0

# Inputs that the two ways are measured on, besides the golden ones.
_COMPARED = 32

# As many of the nodes that cost most are in a message.
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class VariantRequest:
    """What to make a variant of: the user's data, and the least share of labels that have to be equal to fp32's.

    Without ``calibration``, which int8 cannot do without, the artifact's golden inputs are what is measured on;
    ``column`` is the one of a table that holds the inputs.
    ``labels_from`` is labeled data, whose truth is in the column ``label_column`` of a table, for the accuracy. A page
    with pictures of the flips goes to ``html``, also where the variant is refused.
    """

    precision: Precision = "int8"
    calibration: Path | None = None
    column: str | None = None
    labels_from: Path | None = None
    label_column: str = "label"
    min_agreement: float = MIN_AGREEMENT
    html: Path | None = None


class VariantReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was made and measured; ``flips`` are the measured inputs with another label, by fp32's margin.

    ``label_remark`` says where labeled data looks as if its labels were those of other classes; else it is empty.
    Times are medians of the network alone, one by one, on one thread of this machine. ``batches`` are its ratios in the
    batches that a CPU runs; None for kinds of input that run one by one.
    """

    artifact: str
    precision: str
    approximation: Approximation
    trials: tuple[Trial, ...]
    failures: dict[str, str]
    label_remark: str
    flips: tuple[Flip, ...]
    size_bytes: int
    fp32_size_bytes: int
    own_ms: float
    fp32_ms: float
    pair_ms: float | None
    batches: BatchSpeed | None = None

    @property
    def ratio(self) -> float:
        """How many times as fast as fp32 the variant is here."""
        return self.fp32_ms / self.own_ms

    @property
    def pair_ratio(self) -> float | None:
        """How many times as fast as fp32 the variant is here where rows that are too close to call run again."""
        return None if self.pair_ms is None else self.fp32_ms / self.pair_ms


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """The outputs of fp32 and of a variant for the same inputs, how they compare, and the median seconds of each."""

    inputs: Sequence[Arrays]
    outputs: tuple[Sequence[Arrays], Sequence[Arrays]]
    scores: Comparison
    seconds: tuple[float, float]


def check_request(request: VariantRequest) -> None:
    """Raise ExportError for a request that no data could meet, and for int8 without data."""
    if request.calibration is None and request.precision == "int8":
        raise ExportError(
            "--calibration: missing: int8 takes the ranges of activations from real inputs, and none are made up. "
            "Pass a folder, a table or a list of inputs like those that the model is used on."
        )
    if not 0 < request.min_agreement <= 1:
        raise ExportError(
            f"--min-agreement: expected a share above 0, at most 1, got {request.min_agreement:g}. Correct it."
        )


def add_variant(
    artifact: Artifact, stage: Staging, request: VariantRequest, progress: Progress
) -> tuple[Manifest, VariantReport]:
    """Write a variant of ``artifact`` into a stage that has its other files; return manifest and report.

    Raises ParityError, naming the nodes that cost most, where its labels agree less than requested.
    """
    manifest, precision = artifact.manifest, request.precision
    check_request(request)
    check_inputs(manifest)
    check_task(manifest.task, manifest.name)
    with progress.step("data") as step, Model(artifact, device="cpu", threads=1) as model:
        data = _read_inputs(artifact, model, request)
        labeled = (
            []
            if request.labels_from is None
            else read_uncalibrated(model, request.labels_from, column=request.label_column, calibrated=data.calibrated)
        )
        step.finding = _describe_data(request, data)
    with (
        progress.step("quantize" if precision == "int8" else "convert") as step,
        Model(artifact, device="cpu", threads=1) as model,
    ):
        search = _open_search(artifact, model, data, precision)
        found = search.run(request.min_agreement)
        step.finding = f"{len(found.trials)} ways tried: {_describe(found.best)}"
    variant, files = write_graphs(artifact, found.best.model, _variant_names(manifest, precision))
    for name, content in files.items():
        stage.write(name, content)
    others = tuple(other for other in manifest.variants if other.precision != precision)
    draft = msgspec.structs.replace(manifest, variants=(*others, variant), files=stage.files())
    staged = Artifact(path=stage.folder, manifest=draft)
    with (
        progress.step("measure") as step,
        Model(staged, device="cpu", threads=1) as full,
        Model(staged, precision=precision, device="cpu", threads=1) as own,
    ):
        compared = _compare(full, own, data.measured)
        _check_finite(manifest, precision, compared)
        agreement = compared.scores.agreement()
        costs = search.costs() if agreement.share < request.min_agreement else ()
        if request.html is not None:
            write_page(
                request.html,
                MeasuredVariant(
                    name=manifest.name,
                    precision=precision,
                    min_agreement=request.min_agreement,
                    agreement=agreement,
                    trials=found.trials,
                    costs=costs,
                    pictures=draw_flips(
                        compared.scores, data.measured, compared.outputs, manifest, full.labels, precision=precision
                    ),
                ),
            )
        if agreement.share < request.min_agreement:
            raise _refusal(manifest, request, agreement, costs)
        step.finding = f"{agreement.equal} of {agreement.inputs} labels as in {FULL_PRECISION}: {_shares(agreement)}"
        fp32_s, own_s = compared.seconds
        deferral, pair_s, batches = None, None, None
        if precision == "int8":
            deferral, pair_s = measure_deferral(
                *compared.outputs,
                manifest,
                largest_margin=largest_flipped_margin(*_compare(full, own, data.calibrated).outputs, manifest),
                fp32_s=fp32_s,
                own_s=own_s,
            )
            near = deferred_rows(compared.outputs[1], manifest, deferral.limit)
            batches = measure_batches(full, own, data.measured, near)
            if batches is not None and batches.pair < LEAST_SPEED:
                deferral = msgspec.structs.replace(deferral, speed=0.0)
        accuracy, remark = measure_accuracy(full, own, labeled)
        approximation = Approximation(
            quantization=found.best.quantization,
            device=own.device,
            data=None if request.calibration is None else data.describe(),
            min_agreement=request.min_agreement,
            agreement=agreement,
            measured_against_sha256=draft.full_precision_sha256,
            accuracy=accuracy,
            deferral=deferral,
            golden=_write_golden(staged, stage, own, found.best.model, compared),
        )
    variant = msgspec.structs.replace(variant, approximation=approximation)
    written = msgspec.structs.replace(draft, variants=(*others, variant), files=stage.files())
    report = VariantReport(
        artifact=str(artifact.path),
        precision=precision,
        approximation=approximation,
        trials=found.trials,
        failures=data.failures,
        label_remark=remark,
        flips=flips_of(compared.scores, data.measured),
        size_bytes=sum(written.files[name].size_bytes for name in variant.files),
        fp32_size_bytes=written.files[manifest.variant(FULL_PRECISION).weights_of_network].size_bytes,
        fp32_ms=1000 * fp32_s,
        own_ms=1000 * own_s,
        pair_ms=None if pair_s is None else 1000 * pair_s,
        batches=batches,
    )
    return written, report


def _read_inputs(artifact: Artifact, model: Model, request: VariantRequest) -> SplitData:
    """Return the user's data; without any, the golden inputs, which half precision is converted and measured with."""
    if request.calibration is not None:
        return read_data(model, request.calibration, request.min_agreement, column=request.column)
    cases = read_golden(artifact.file(artifact.manifest.golden.file)).cases
    golden = tuple(
        PreparedSource(name=f"golden input {row}", source=case.source, sha256=digest_arrays(arrays), arrays=arrays)
        for row, (case, arrays) in enumerate((case, dict(case.prepared)) for case in cases)
    )
    return SplitData(calibrated=golden, measured=golden, failures={})


def _describe_data(request: VariantRequest, data: SplitData) -> str:
    if request.calibration is None:
        return f"{len(data.measured)} golden inputs of the artifact"
    return f"{len(data.calibrated)} inputs to calibrate with, {len(data.measured)} others to measure with"


def _check_finite(manifest: Manifest, precision: str, compared: _Compared) -> None:
    """Raise ParityError where a variant has NaN or infinity, and fp32 a number."""
    lost = sum(
        not all(bool((np.isfinite(own[name]) | ~np.isfinite(full[name])).all()) for name in full)
        for full, own in zip(*compared.outputs, strict=True)
    )
    if lost:
        raise ParityError(
            f"'{manifest.name}': {precision} gives NaN or infinity for {lost} of {len(compared.inputs)} measured "
            f"inputs, where {FULL_PRECISION} has numbers. Nothing was written. Use {FULL_PRECISION}, or "
            "calibrate with inputs like these."
        )


def _open_search(artifact: Artifact, model: Model, data: SplitData, precision: Precision) -> Search:
    """Return the search for a precision, and for int8 the kind of input."""
    if precision == "fp16":
        return HalfSearch(read_network(artifact, with_tables=False), artifact.manifest, data.calibrated)

    def prepare(source: PreparedSource) -> Arrays:
        return model.stack([model.prepare(source.source, subject=f"'{source.name}'")])

    has_products = artifact.manifest.inputs[0].kind in _PRODUCT_KINDS
    search = ProductSearch if has_products else StaticSearch
    return search(
        read_network(artifact, with_tables=has_products),
        artifact.manifest,
        data.calibrated,
        reduce_range=has_fast_int8() is False,
        prepare=prepare,
    )


def check_written(stage: Staging, name: str, precision: str) -> None:
    """Raise ParityError unless the variant in a finished stage gives the outputs that were measured."""
    verification = verify(stage.folder, device="cpu", precision=precision)
    if not verification.passed:
        failed = next(check for check in verification.checks if not check.passed)
        raise ParityError(
            f"'{name}': the written {precision} graphs differ from those that were measured: expected at most "
            f"{failed.limit:g}, got {failed.worst:.1e} ({failed.title}). Nothing was written; report this."
        )


def check_inputs(manifest: Manifest) -> None:
    """Raise ExportError for an input whose parts are of several kinds, or several photos."""
    kinds = [spec.kind for spec in manifest.inputs]
    if len(kinds) > 1 and set(kinds) != {"tensor"}:
        raise ExportError(
            f"'{manifest.name}': no variant is made of a network whose input has parts ({', '.join(kinds)}). Use "
            f"{FULL_PRECISION}."
        )


def _variant_names(manifest: Manifest, precision: Precision) -> Variant:
    """Return the names of a variant's files: those of fp32 with the precision before their suffix."""
    full = manifest.variant(FULL_PRECISION)
    model, network = (_with_precision(name, precision) for name in (full.model, full.network))
    weights = None if full.weights is None else _with_precision(full.weights, precision)
    return Variant(precision=precision, model=model, network=network, weights=weights)


def _with_precision(name: str, precision: Precision) -> str:
    return f"{Path(name).stem}.{precision}{Path(name).suffix}"


def _describe(best: QuantizedNetwork) -> str:
    quantization = best.quantization
    count = len(quantization.fp32_nodes)
    kept = f", {count} nodes in {FULL_PRECISION}" if count else ""
    ranges = f", ranges by {quantization.ranges}" if quantization.ranges else ""
    smoothed = f", smoothed by {quantization.smoothing:g}" if quantization.smoothing is not None else ""
    channels = ", per channel" if quantization.per_channel else ""
    return f"{quantization.method}{ranges}{smoothed}{channels}{kept}"


def _compare(full: Model, own: Model, sources: Sequence[PreparedSource]) -> _Compared:
    """Return how the variant's outputs compare with fp32's on some inputs, each alone, as they are served.

    The two run in turns, so that a busy moment of the machine affects both alike.
    """
    outputs: tuple[list[Arrays], list[Arrays]] = ([], [])
    seconds: tuple[list[float], list[float]] = ([], [])
    for source in sources:
        for model, own_outputs, own_seconds in zip((full, own), outputs, seconds, strict=True):
            start = time.perf_counter()
            own_outputs.append(model.run(source.arrays))
            own_seconds.append(time.perf_counter() - start)
    return _Compared(
        inputs=[source.arrays for source in sources],
        outputs=outputs,
        scores=compare_scores(*outputs, full.manifest, full.labels),
        seconds=(statistics.median(seconds[0]), statistics.median(seconds[1])),
    )


def _shares(agreement: Agreement) -> str:
    return f"{agreement.share:.2%}, at 95% between {agreement.low:.2%} and {agreement.high:.2%}"


def _refusal(
    manifest: Manifest, request: VariantRequest, agreement: Agreement, costs: Sequence[NodeCost]
) -> ParityError:
    costly = ", ".join(map(str, costs[:_LISTED]))
    return ParityError(
        f"'{manifest.name}': {request.precision} agrees with {FULL_PRECISION} on {agreement.equal} of "
        f"{agreement.inputs} measured inputs ({_shares(agreement)}): expected {request.min_agreement:.2%}; the "
        f"largest {FULL_PRECISION} margin of a flipped label is {agreement.flipped_margin:.3g}. The nodes that cost "
        f"most: {costly}. Nothing was written. Calibrate with inputs like those it is used on, or lower "
        "--min-agreement."
    )


def _write_golden(
    staged: Artifact, stage: Staging, own: Model, quantized: onnx.ModelProto, compared: _Compared
) -> VariantGolden:
    """Write the variant's own outputs for the golden inputs; return how far another machine may be from them.

    That is as far as onnxruntime's 8-bit kernels are from the same graph computed in float32. Another machine may round
    a few values the other way, each of which costs less than rounding all of them: the mean difference from fp32.
    """
    manifest = staged.manifest
    cases = read_golden(staged.file(manifest.golden.file)).cases
    golden = [own.run(case.prepared) for case in cases]
    name = f"{Path(manifest.golden.file).stem}.{own.precision}{Path(manifest.golden.file).suffix}"
    stage.write(name, golden_outputs_to_npz(golden))
    inputs = [*(case.prepared for case in cases), *compared.inputs[:_COMPARED]]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    # Where half precision is native, every value may round another way.
    smallest = compared.scores.largest if own.precision == "fp16" else compared.scores.mean
    limits = {output: max(limit, smallest) for output, limit in manifest.golden.output_limits.items()}
    for arrays in inputs:
        fused = own.run(arrays)
        for output, expected in zip(limits, plain.run(list(limits), dict(arrays)), strict=True):
            limits[output] = max(limits[output], _OTHER_MACHINES * largest_difference(fused[output], expected))
    return VariantGolden(
        file=name,
        output_limits=limits,
        end_to_end_limits={
            output: limit + 2 * manifest.golden.end_to_end_limits[output] for output, limit in limits.items()
        },
    )

"""Search for a quantization: ways to find ranges, and nodes that stay in fp32; every trial is reported."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from exporter.errors import ParityError
from exporter.precision.biases import measure_means
from exporter.precision.data import Arrays, PreparedSource
from exporter.precision.fp16 import convert_half, measure_largest
from exporter.precision.graphs import NetworkGraph
from exporter.precision.int8 import QuantizedNetwork, quantize_dynamic, quantize_static
from exporter.precision.promises import broken_promise, broken_smoothing, broken_weight, changed_constant
from exporter.precision.ranges import PRODUCTS, RANGE_METHODS, RangeMethod, Ranges, measure_ranges
from exporter.precision.scores import Comparison, compare_scores, run_network
from exporter.precision.smoothing import measure_channels, smooth
from runtime.manifest import Manifest, Quantization

# A node's own cost shows on this many inputs; there are many nodes.
_INPUTS_PER_NODE = 32

# Strengths of smoothing that are tried (0.8 kept the most labels of a MiniLM classifier; 0.5 and 0.9 fewer); and none.
_SMOOTHINGS = (0.8, None)

# Dynamic ranges are worth it where scores are so many times as close: such a variant runs one input at a time.
_DYNAMIC_HANDICAP = 2.0

# Returns the arrays of an input as the runtime prepares it.
Prepare: TypeAlias = Callable[[PreparedSource], Arrays]

# Up to this share of the nodes with weights may stay in fp32: with more, the variant is hardly smaller or faster.
_MOST_FULL = 0.5


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One way to quantize, and what it came to on the inputs that were calibrated with."""

    quantization: Quantization
    agreement: float
    mean_score_difference: float

    @property
    def ranges(self) -> str:
        """How the ranges of activations were found, in words."""
        how = self.quantization
        smoothed = f", smoothed by {how.smoothing:g}" if how.smoothing is not None else ""
        return f"{how.ranges or how.method}{smoothed}"


class NodeCost(msgspec.Struct, frozen=True, kw_only=True):
    """What quantizing one node alone costs: the share of labels equal to fp32, and the mean difference of scores."""

    node: str
    module: str
    agreement: float
    mean_score_difference: float

    def __str__(self) -> str:
        return f"'{self.module}' ({self.agreement:.1%} alone, scores off by {self.mean_score_difference:.1e})"


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best quantization, and all trials."""

    best: QuantizedNetwork
    trials: tuple[Trial, ...]


class Search(ABC):
    """Quantizations of one network, judged by their labels on the calibration inputs."""

    def __init__(
        self, network: NetworkGraph, manifest: Manifest, calibrated: Sequence[PreparedSource], *, reduce_range: bool
    ) -> None:
        self._network = network
        self._manifest = manifest
        self._calibrated = calibrated
        self._inputs = [source.arrays for source in calibrated]
        self._reduce_range = reduce_range
        self._full = run_network(network.model, self._inputs)
        self._tried: list[tuple[Trial, QuantizedNetwork]] = []
        self._costs: list[NodeCost] | None = None

    def run(self, min_agreement: float) -> Found:
        """Return the quantization whose labels agree as required, with half of the flips that are allowed.

        Of several, it is the one with the fewest nodes in fp32, then the one whose scores differ least, where those of
        dynamic ranges count twice; of none, the one whose scores differ least: its labels on these few inputs say less.
        Further nodes stay in fp32 only where that is needed. No time is measured: every run chooses the same. Raises
        ParityError, by name, where the best does not keep what it promises.
        """
        required = (1 + min_agreement) / 2
        for quantized in self._ways(required):
            comparison = self._judge(quantized, len(self._inputs))
            trial = Trial(
                quantization=quantized.quantization,
                agreement=comparison.share,
                mean_score_difference=comparison.mean,
            )
            self._tried.append((trial, quantized))
        best = self._best(required)[1]
        problem = self._broken_promise(best)
        if problem:
            raise ParityError(
                f"'{self._manifest.name}': the variant does not keep what it promises: {problem}. Nothing was "
                "written; report this."
            )
        return Found(best=best, trials=tuple(trial for trial, _ in self._tried))

    def costs(self) -> list[NodeCost]:
        """Return what each node with weights costs, quantized alone; the most costly first."""
        if self._costs is None:
            costs = []
            for node, module in self._network.weighted.items():
                comparison = self._judge(self._alone(node), _INPUTS_PER_NODE)
                costs.append(
                    NodeCost(
                        node=node,
                        module=module,
                        agreement=comparison.share,
                        mean_score_difference=comparison.mean,
                    )
                )
            # Of so few inputs, the labels say less than the scores.
            self._costs = sorted(costs, key=lambda cost: (-cost.mean_score_difference, cost.agreement))
        return self._costs

    @abstractmethod
    def _first_ways(self, required: float) -> Iterator[QuantizedNetwork]:
        """Yield the quantizations that are always tried."""

    @abstractmethod
    def _with_full(self, best: QuantizedNetwork, fp32_nodes: tuple[str, ...]) -> QuantizedNetwork:
        """Return the best quantization so far, with other nodes in fp32."""

    @abstractmethod
    def _alone(self, node: str) -> QuantizedNetwork:
        """Return the network with one quantized node."""

    @abstractmethod
    def _broken_promise(self, best: QuantizedNetwork) -> str:
        """Return what a quantized network does not keep, in words; empty if nothing."""

    def _ways(self, required: float) -> Iterator[QuantizedNetwork]:
        yield from self._first_ways(required)
        first_best = self._best(required)[1]
        weighted = self._network.weighted
        most = int(_MOST_FULL * len(weighted))
        for count in [*(2**power for power in range(most.bit_length()) if 2**power < most), most]:
            if not count or self._best(required)[0].agreement >= required:
                return
            costly = {cost.node for cost in self.costs()[:count]}
            yield self._with_full(first_best, tuple(name for name in weighted if name in costly))

    def _best(self, required: float) -> tuple[Trial, QuantizedNetwork]:
        return min(
            self._tried,
            key=lambda pair: (
                pair[0].agreement < required,
                len(pair[0].quantization.fp32_nodes) if pair[0].agreement >= required else 0,
                pair[0].mean_score_difference * (_DYNAMIC_HANDICAP if pair[1].is_dynamic else 1),
            ),
        )

    def _judge(self, quantized: QuantizedNetwork, count: int) -> Comparison:
        outputs = run_network(quantized.model, self._inputs[:count])
        return compare_scores(self._full[:count], outputs, self._manifest)


class MeasuredSearch(Search):
    """Quantizations with what was measured of activations on the calibration inputs.

    ``prepare`` gives the arrays of an input as the runtime prepares it.
    """

    def __init__(
        self,
        network: NetworkGraph,
        manifest: Manifest,
        calibrated: Sequence[PreparedSource],
        *,
        reduce_range: bool,
        prepare: Prepare,
    ) -> None:
        super().__init__(network, manifest, calibrated, reduce_range=reduce_range)
        self._means = measure_means(network.model, self._inputs)
        self._prepare = prepare

    def _prepared(self) -> list[Arrays]:
        return [self._prepare(source) for source in self._calibrated]


class StaticSearch(MeasuredSearch):
    """Quantizations with ranges of activations from the calibration inputs."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ranges: dict[RangeMethod, Ranges] = {}

    def _first_ways(self, required: float) -> Iterator[QuantizedNetwork]:
        for method in RANGE_METHODS:
            yield self._quantize(method, ())
        if len(self._network.ends) < len(self._network.weighted):
            yield self._with_full(self._best(required)[1], self._network.ends)

    def _with_full(self, best: QuantizedNetwork, fp32_nodes: tuple[str, ...]) -> QuantizedNetwork:
        return self._quantize(_method_of(best), fp32_nodes)

    def _alone(self, node: str) -> QuantizedNetwork:
        return self._quantize("min-max", tuple(name for name in self._network.inner if name != node))

    def _broken_promise(self, best: QuantizedNetwork) -> str:
        return broken_promise(self._network, best, self._ranges[_method_of(best)], self._prepared())

    def _quantize(self, method: RangeMethod, fp32_nodes: tuple[str, ...]) -> QuantizedNetwork:
        if method not in self._ranges:
            self._ranges[method] = measure_ranges(self._network.model, self._inputs, method)
        return quantize_static(
            self._network, self._ranges[method], self._means, reduce_range=self._reduce_range, fp32_nodes=fp32_nodes
        )


class ProductSearch(MeasuredSearch):
    """Quantizations of networks that are mostly matrix products, whose inputs differ in length.

    Static ranges are of smoothed activations or plain ones; dynamic ones are those of each input.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._largest = measure_channels(self._network.model, self._inputs)
        self._measured: dict[float | None, tuple[NetworkGraph, Ranges]] = {}

    def _first_ways(self, required: float) -> Iterator[QuantizedNetwork]:
        for smoothing in _SMOOTHINGS:
            yield self._quantize(smoothing, ())
        dynamic = self._dynamic(())
        if dynamic.nodes:
            yield dynamic
        tables = self._network.tables
        if tables and len(tables) < len(self._network.weighted):
            without_tables = self._with_full(self._best(required)[1], tables)
            if without_tables.nodes:
                yield without_tables

    def _with_full(self, best: QuantizedNetwork, fp32_nodes: tuple[str, ...]) -> QuantizedNetwork:
        if best.is_dynamic:
            return self._dynamic(fp32_nodes)
        return self._quantize(best.quantization.smoothing, fp32_nodes)

    def _alone(self, node: str) -> QuantizedNetwork:
        best = self._best(1.0)[1]
        return self._with_full(best, tuple(name for name in self._network.weighted if name != node))

    def _broken_promise(self, best: QuantizedNetwork) -> str:
        if best.is_dynamic:
            return broken_weight(self._network, best)
        network, ranges = self._measured[best.quantization.smoothing]
        return broken_smoothing(self._network, network) or broken_promise(network, best, ranges, self._prepared())

    def _dynamic(self, fp32_nodes: tuple[str, ...]) -> QuantizedNetwork:
        return quantize_dynamic(self._network, reduce_range=self._reduce_range, fp32_nodes=fp32_nodes)

    def _quantize(self, smoothing: float | None, fp32_nodes: tuple[str, ...]) -> QuantizedNetwork:
        if smoothing not in self._measured:
            network = self._network if smoothing is None else smooth(self._network, self._largest, smoothing)
            ranges = measure_ranges(network.model, self._inputs, "min-max", operators=PRODUCTS)
            self._measured[smoothing] = network, ranges
        network, ranges = self._measured[smoothing]
        return quantize_static(
            network,
            ranges,
            self._means,
            smoothing=smoothing,
            reduce_range=self._reduce_range,
            fp32_nodes=fp32_nodes,
        )


class HalfSearch(Search):
    """Conversions to half precision, whose nodes that would overflow stay in fp32."""

    def __init__(self, network: NetworkGraph, manifest: Manifest, calibrated: Sequence[PreparedSource]) -> None:
        super().__init__(network, manifest, calibrated, reduce_range=False)
        self._largest = measure_largest(network.model, self._inputs)

    def _first_ways(self, required: float) -> Iterator[QuantizedNetwork]:
        del required
        yield self._convert(())

    def _with_full(self, best: QuantizedNetwork, fp32_nodes: tuple[str, ...]) -> QuantizedNetwork:
        del best
        return self._convert(fp32_nodes)

    def _alone(self, node: str) -> QuantizedNetwork:
        return self._convert(tuple(name for name in self._network.inner if name != node))

    def _broken_promise(self, best: QuantizedNetwork) -> str:
        if not best.nodes:
            return "no node is left in half precision: all would overflow, or see only tiny numbers"
        return changed_constant(self._network, best)

    def _convert(self, fp32_nodes: tuple[str, ...]) -> QuantizedNetwork:
        return convert_half(self._network, self._largest, fp32_nodes=fp32_nodes)


def _method_of(quantized: QuantizedNetwork) -> RangeMethod:
    method = quantized.quantization.ranges
    assert method is not None, quantized.quantization
    return method

"""Search for a quantization: ways to find ranges, and nodes that stay in fp32; every trial is reported."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from exporter.errors import ParityError
from exporter.precision.data import Arrays, PreparedSource
from exporter.precision.graphs import NetworkGraph
from exporter.precision.int8 import QuantizedNetwork, quantize_static
from exporter.precision.promises import broken_promise
from exporter.precision.ranges import RANGE_METHODS, RangeMethod, Ranges, measure_ranges
from exporter.precision.scores import Comparison, compare_scores, run_network
from runtime.manifest import Manifest, Quantization

# A node's own cost shows on this many inputs; there are many nodes.
_INPUTS_PER_NODE = 32

# Up to this share of the nodes with weights may stay in fp32: with more, the variant is hardly smaller or faster.
_MOST_FULL = 0.5


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One way to quantize, and what it came to on the inputs that were calibrated with."""

    quantization: Quantization
    agreement: float
    mean_score_difference: float


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


class StaticSearch:
    """Quantizations of one network with static ranges, judged by their labels on the calibration inputs.

    ``prepare`` gives the arrays of an input as the runtime prepares it.
    """

    def __init__(
        self,
        network: NetworkGraph,
        manifest: Manifest,
        calibrated: Sequence[PreparedSource],
        *,
        prepare: Callable[[PreparedSource], Arrays],
        reduce_range: bool,
    ) -> None:
        self._network = network
        self._manifest = manifest
        self._calibrated = calibrated
        self._inputs = [source.arrays for source in calibrated]
        self._prepare = prepare
        self._reduce_range = reduce_range
        self._full = run_network(network.model, self._inputs)
        self._ranges: dict[RangeMethod, Ranges] = {}
        self._costs: list[NodeCost] | None = None

    def run(self, min_agreement: float) -> Found:
        """Return the quantization with the most equal labels; of several, the one whose scores differ least.

        Nodes beyond the first and the last with weights stay in fp32 only where that is needed for ``min_agreement``.
        Raises ParityError, by name, where the best does not keep what it promises.
        """
        tried: list[tuple[Trial, QuantizedNetwork]] = []
        for method, fp32_nodes in self._ways(tried, min_agreement):
            quantized = self._quantize(method, fp32_nodes)
            comparison = self._judge(quantized, len(self._inputs))
            trial = Trial(
                quantization=quantized.quantization,
                agreement=comparison.share,
                mean_score_difference=comparison.mean,
            )
            tried.append((trial, quantized))
        _, best = _best(tried)
        ranges = self._ranges[_method_of(best)]
        problem = broken_promise(
            self._network,
            best,
            ranges,
            [self._prepare(source) for source in self._calibrated],
        )
        if problem:
            raise ParityError(
                f"'{self._manifest.name}': int8 does not keep what it promises: {problem}. Nothing was written; report "
                "this."
            )
        return Found(best=best, trials=tuple(trial for trial, _ in tried))

    def costs(self) -> list[NodeCost]:
        """Return what each node with weights costs, quantized alone with min-max ranges; the most costly first."""
        if self._costs is None:
            weighted = self._network.weighted
            costs = []
            for node, module in weighted.items():
                others = [name for name in self._network.inner if name != node]
                comparison = self._judge(self._quantize("min-max", others), _INPUTS_PER_NODE)
                costs.append(
                    NodeCost(
                        node=node,
                        module=module,
                        agreement=comparison.share,
                        mean_score_difference=comparison.mean,
                    )
                )
            self._costs = sorted(costs, key=lambda cost: (cost.agreement, -cost.mean_score_difference))
        return self._costs

    def _ways(
        self, tried: Sequence[tuple[Trial, QuantizedNetwork]], min_agreement: float
    ) -> Iterator[tuple[RangeMethod, tuple[str, ...]]]:
        """Yield ways to find ranges with the nodes that stay in fp32; later ones depend on what was tried."""
        for method in RANGE_METHODS:
            yield method, ()
        method = _method_of(_best(tried)[1])
        weighted = self._network.weighted
        if len(self._network.ends) < len(weighted):
            yield method, self._network.ends
        most = int(_MOST_FULL * len(weighted))
        for count in [*(2**power for power in range(most.bit_length()) if 2**power < most), most]:
            if not count or _best(tried)[0].agreement >= min_agreement:
                return
            costly = {cost.node for cost in self.costs()[:count]}
            yield method, tuple(name for name in weighted if name in costly)

    def _quantize(self, method: RangeMethod, fp32_nodes: Sequence[str]) -> QuantizedNetwork:
        if method not in self._ranges:
            self._ranges[method] = measure_ranges(self._network.model, self._inputs, method)
        return quantize_static(
            self._network, self._ranges[method], reduce_range=self._reduce_range, fp32_nodes=fp32_nodes
        )

    def _judge(self, quantized: QuantizedNetwork, count: int) -> Comparison:
        outputs = run_network(quantized.model, self._inputs[:count])
        return compare_scores(self._full[:count], outputs, self._manifest)


def _best(tried: Sequence[tuple[Trial, QuantizedNetwork]]) -> tuple[Trial, QuantizedNetwork]:
    """Return the first trial with the most equal labels and, of those, the least difference of scores."""
    return min(tried, key=lambda pair: (-pair[0].agreement, pair[0].mean_score_difference))


def _method_of(quantized: QuantizedNetwork) -> RangeMethod:
    method = quantized.quantization.ranges
    assert method is not None, quantized.quantization
    return method

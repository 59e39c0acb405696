"""Variants of an artifact's graphs, by precision, and what is known of those that are not equal to the model."""

from typing import Annotated, Literal

from msgspec import Meta

from runtime.manifest.parts import Digest, FileName, Length, Limit, Name, Part, Share, Size

# The precision of the graphs that every artifact has, first among its variants, and that are proven equal.
FULL_PRECISION: Literal["fp32"] = "fp32"


class Quantization(Part, frozen=True, kw_only=True):
    """How a network was quantized to 8 bits.

    ``static`` has ranges of activations from calibration data, found by ``ranges``; ``dynamic`` takes them from each
    input, and has no ``ranges``. ``reduce_range`` says that weights have 7 bits, for processors whose 8-bit products
    overflow. ``fp32_nodes`` are the nodes with weights that stay in fp32.
    """

    method: Literal["static", "dynamic"]
    ranges: Literal["min-max", "percentile", "entropy"] | None
    per_channel: bool
    reduce_range: bool
    fp32_nodes: Annotated[tuple[Name, ...], Meta(max_length=1_000_000)] = ()


class CalibrationData(Part, frozen=True, kw_only=True):
    """The user's inputs behind a variant, which the artifact does not hold: how many, and the SHA-256 of their content.

    ``calibrated`` inputs gave ranges and chose the quantization, ``measured`` ones are others, and gave the figures.
    """

    calibrated: Length
    calibrated_sha256: Digest
    measured: Length
    measured_sha256: Digest


class Agreement(Part, frozen=True, kw_only=True):
    """A variant against fp32 on the measured inputs: on how many the labels are equal, and how far the scores differ.

    ``low`` and ``high`` bound the share of equal labels, at 95% (Clopper-Pearson). ``flipped_margin`` is the largest
    margin of fp32 where a label differs, None where none does. ``score_difference`` is the largest absolute one.
    """

    inputs: Length
    equal: Size
    low: Share
    high: Share
    flipped_margin: Limit | None
    score_difference: Limit
    mean_score_difference: Limit

    @property
    def share(self) -> float:
        """The share of inputs with the label of fp32."""
        return self.equal / self.inputs


class Accuracy(Part, frozen=True, kw_only=True):
    """The share of labeled inputs that each precision got right; none of them was calibrated with."""

    inputs: Length
    fp32: Share
    variant: Share


class VariantGolden(Part, frozen=True, kw_only=True):
    """A variant's own outputs for the artifact's golden inputs, and the largest differences from them, by output.

    ``output_limits`` are from the prepared inputs on, ``end_to_end_limits`` from the raw inputs on.
    """

    file: FileName
    output_limits: dict[str, Limit]
    end_to_end_limits: dict[str, Limit]


class Approximation(Part, frozen=True, kw_only=True):
    """The evidence on a variant that is not equal to the model: measured, and never proven.

    ``min_agreement`` is the share of equal labels that was required.
    """

    verdict: Literal["approximate"] = "approximate"
    quantization: Quantization
    data: CalibrationData
    min_agreement: Share
    agreement: Agreement
    accuracy: Accuracy | None = None
    golden: VariantGolden


class Variant(Part, frozen=True, kw_only=True, omit_defaults=True):
    """The graphs of one precision: ``model`` takes raw inputs, ``network`` prepared ones; both read ``weights``.

    They are one file where the host prepares nothing that the graph could. ``weights`` is None where each graph holds
    its own. ``approximation`` is the evidence on a precision other than fp32.
    """

    precision: Literal["fp32", "int8"]
    model: FileName
    network: FileName
    weights: FileName | None = None
    approximation: Approximation | None = None

    @property
    def shares_batches(self) -> bool:
        """Whether inputs may share a call of the network: dynamic ranges are those of all inputs of a call."""
        return self.approximation is None or self.approximation.quantization.method != "dynamic"

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that the variant is made of, without duplicates."""
        golden = (self.approximation.golden.file,) if self.approximation else ()
        return tuple(dict.fromkeys((self.model, *self.graph_files(self.network), *golden)))

    @property
    def weights_of_network(self) -> str:
        """The file that holds the weights of the network."""
        return self.network if self.weights is None else self.weights

    def graph_files(self, graph: str) -> tuple[str, ...]:
        """Return the names of the files that one of the graphs is made of: itself, and its weights where apart."""
        return (graph,) if self.weights is None else (graph, self.weights)

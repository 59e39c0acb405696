"""Variants of an artifact's graphs, by precision, and what is known of those that are not equal to the model."""

from typing import Annotated, Literal

from msgspec import Meta

from runtime.manifest.parts import Digest, FileName, Length, Limit, Name, Part, Share, Size

# The precision of the graphs that every artifact has, first among its variants, and that are proven equal.
FULL_PRECISION: Literal["fp32"] = "fp32"

# The precisions that 'truecopy quantize' adds.
ADDED_PRECISIONS = ("int8", "fp16")

# Behind the name of a variant: rows that are too close to call run again in full precision.
DEFERRING = f"+{FULL_PRECISION}"

# A pair of networks that is hardly faster than one alone is worth neither its memory nor its risk.
LEAST_SPEED = 1.15


class Quantization(Part, frozen=True, kw_only=True):
    """How a network was quantized to 8 bits, or converted to 16.

    ``static`` has ranges of activations from calibration data, found by ``ranges``; ``dynamic`` takes them from each
    input, and has no ``ranges``. ``reduce_range`` says that weights have 7 bits, for processors whose 8-bit products
    overflow. ``biases_corrected`` says that biases make up for the rounding of weights. ``smoothing`` is the strength
    with which activations were smoothed, None for not at all. ``fp32_nodes`` are the nodes with weights that stay in
    fp32. ``float16`` is half precision; its ``fp32_nodes`` are all that stay, between the
    first weights and the last.
    """

    method: Literal["static", "dynamic", "float16"]
    ranges: Literal["min-max", "percentile", "entropy"] | None
    per_channel: bool
    reduce_range: bool
    biases_corrected: bool = False
    smoothing: Share | None = None
    fp32_nodes: Annotated[tuple[Name, ...], Meta(max_length=1_000_000)] = ()

    @property
    def is_integer(self) -> bool:
        """Whether numbers have 8 bits, which only CPUs run as they were measured."""
        return self.method != "float16"


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


class Deferral(Part, frozen=True, kw_only=True):
    """Rows of a variant that run again in fp32, as their margin is under ``limit``, and what was measured of that.

    A row's margin is how far its best score is above the second, or its nearest score from a threshold. ``limit`` is
    ``safety_factor`` times ``largest_margin``, the smallest that left no flipped label on the calibrated inputs. Of the
    ``inputs`` measured, ``deferred`` ran again, and ``flips`` had another label than fp32 even so; ``risk`` bounds the
    share of flips, at 95%, where none was seen. ``speed`` says how many times as fast as fp32 alone the pair was at
    least, one by one and in the batches that a CPU runs, where it was measured: 1.15, or 0 for less. Two measurements
    agree on that, and hardly on more.
    """

    limit: Limit
    largest_margin: Limit
    safety_factor: Limit
    inputs: Length
    deferred: Size
    flips: Size
    risk: Share
    speed: Limit

    @property
    def share(self) -> float:
        """The share of inputs that ran again."""
        return self.deferred / self.inputs

    @property
    def offered(self) -> bool:
        """Whether the pair may be used: no label flipped, and it is faster than fp32 alone."""
        return not self.flips and self.speed >= LEAST_SPEED


class Approximation(Part, frozen=True, kw_only=True):
    """The evidence on a variant that is not equal to the model: measured, and never proven.

    ``min_agreement`` is the share of equal labels that was required. ``device`` is where it was
    measured. ``data`` is None where the artifact's golden inputs were measured, ``deferral`` in artifacts of earlier
    releases, and for fp16. ``measured_against_sha256`` is of the fp32 graphs' hashes, which the variant belongs to;
    None in artifacts of earlier releases.
    """

    verdict: Literal["approximate"] = "approximate"
    quantization: Quantization
    device: Name = "cpu"
    data: CalibrationData | None = None
    min_agreement: Share
    agreement: Agreement
    measured_against_sha256: Digest | None = None
    accuracy: Accuracy | None = None
    deferral: Deferral | None = None
    golden: VariantGolden


class Variant(Part, frozen=True, kw_only=True, omit_defaults=True):
    """The graphs of one precision: ``model`` takes raw inputs, ``network`` prepared ones; both read ``weights``.

    They are one file where the host prepares nothing that the graph could. ``weights`` is None where each graph holds
    its own. ``shared_weights`` is the file of fp32's where tensors lie that the variant did not change; None where
    there are none. ``approximation`` is the evidence on a precision other than fp32.
    """

    precision: Literal["fp32", "int8", "fp16"]
    model: FileName
    network: FileName
    weights: FileName | None = None
    shared_weights: FileName | None = None
    approximation: Approximation | None = None

    @property
    def shares_batches(self) -> bool:
        """Whether inputs may share a call of the network: dynamic ranges are those of all inputs of a call."""
        return self.approximation is None or self.approximation.quantization.method != "dynamic"

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that only this variant is made of, without duplicates."""
        golden = (self.approximation.golden.file,) if self.approximation else ()
        weights = () if self.weights is None else (self.weights,)
        return tuple(dict.fromkeys((self.model, self.network, *weights, *golden)))

    @property
    def weights_of_network(self) -> str:
        """The file that holds the weights of the network."""
        return self.network if self.weights is None else self.weights

    def graph_files(self, graph: str) -> tuple[str, ...]:
        """Return the names of the files that one of the graphs is made of: itself, and its weights where apart."""
        return (graph, *(name for name in (self.weights, self.shared_weights) if name is not None))

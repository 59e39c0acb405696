"""Adapter of texts and pairs of texts: tokenized on the host by the tokenizer of training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from exporter.architectures.transformers_config import labels_of, task_of
from exporter.conversion.network_io import Arrays, main_output
from exporter.errors import ParityError, PreprocessingError
from exporter.inputs.adapter import AdapterDefaults, GraphPart, TorchScriptPart
from exporter.inputs.text.comparison import check_tokenizer
from exporter.inputs.text.tokenizer import ReadTokenizer
from exporter.options.task import TaskOptions
from exporter.parity.cases import (
    BATCH_SIZES,
    GENERATED,
    SAMPLES,
    Case,
    PreparedInput,
    ReferenceOutput,
    ServedStage,
    StageBorders,
)
from exporter.parity.paths import host_stage
from runtime.artifact.open import Artifact
from runtime.errors import InputError
from runtime.evidence import Stage, WholeCheck
from runtime.inputs.encoding import text_lines
from runtime.inputs.text.decoder import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from runtime.manifest import LAYOUT, TextInput
from runtime.model import Model

TEXT = "text"
SENTENCES = "sentences"

# Faults of tokenizers and masks show on one of these: case, accents, other scripts, one word, no word of the
# vocabulary, blanks, control characters, what looks like a special token, and every length up to a few dozen tokens.
_TEXTS = (
    "Good",
    "It is not bad at all.",
    "The quick brown fox jumps over the lazy dog, and nobody in the village seems to mind.",
    "NAÏVE café coöperation — “quoted”, isn't it?",
    "今日は天気がいいですね。 Привет, мир! שלום",
    "🙂🙃 1,234.56 € #tag @name https://example.org/a?b=c",
    "  blanks\t and\nlines\r\n between   words  ",
    "a [SEP] b </s> c <pad> [PAD] d [MASK]",
    "zxqjvkw wqzzx pneumonoultramicroscopicsilicovolcanoconiosis",
    "zero\u200bwidth, soft\u00adhyphen, combining e\u0301, nul\u0000byte",
    "Returns the sum of the array elements over the given axis, as a new array unless an output is given.",
)
_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_MAX_SAMPLES = 48

# How many texts are tried beside each other, to see whether padding changes what the network gives.
_TRIED = 8

# Relative to the largest output: what a network that looks away from padding may differ by, with and without it.
_NEUTRAL_LIMIT = 1e-4


class TextAdapter(AdapterDefaults):
    """Texts, from one word to more than the network takes.

    ``call`` runs the eager network on tensors by name, to try whether padding changes what it gives; without it, only
    texts of equal length share a batch. ``takes`` are the names of its forward's parameters. ``config``
    is the network's transformers configuration, which may name the classes and the task; None without one.
    """

    noun = "texts"
    libraries = ("tokenizers", "transformers")
    # Some of our own texts are long on purpose.
    expected_warnings = (".*longer than the",)
    prepared_limit = 0.0
    decoder_tolerance = 0.0
    inputs_stage: Stage = "tokens"

    def __init__(
        self,
        tokenizer: ReadTokenizer,
        *,
        takes: Sequence[str],
        pairs: bool,
        samples: Path | None,
        config: Any,
        call: Callable[[Mapping[str, torch.Tensor]], Any] | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._arrays = tuple(name for name in tokenizer.arrays if name in takes)
        if INPUT_IDS not in self._arrays:
            raise PreprocessingError(
                f"{tokenizer.origin}: gives {', '.join(tokenizer.arrays)}, and the network's forward takes "
                f"{', '.join(map(repr, takes)) or 'nothing'}: expected '{INPUT_IDS}' among both. Name the "
                f"forward's parameters as the tokenizer's arrays that they take, as in forward(self, "
                f"{', '.join(tokenizer.arrays[: max(1, len(takes))])})."
            )
        self._pairs = pairs
        self._samples = samples
        self.skipped_samples: tuple[str, ...] = ()
        self.assumptions = tokenizer.assumptions
        self.labels = labels_of(config)
        self._task = task_of(config)
        self._cases = self._read_cases()
        padded = call is not None and tokenizer.pad_id is not None and self._is_neutral(call)
        self._spec = TextInput(
            name=TEXT,
            tokenizer=LAYOUT.tokenizer,
            arrays=self._arrays,
            max_length=tokenizer.max_length,
            pad_id=tokenizer.pad_id if padded else None,
            pad_type_id=tokenizer.pad_type_id,
            padding_side=tokenizer.padding_side,
            pairs=pairs,
        )

    @property
    def inputs(self) -> tuple[TextInput, ...]:
        """The text."""
        return (self._spec,)

    @property
    def files(self) -> Mapping[str, bytes]:
        """The tokenizer."""
        return {LAYOUT.tokenizer: self._tokenizer.data}

    @property
    def dimensions(self) -> Mapping[str, Mapping[int, str]]:
        """The batch; and the length, unless the tokenizer gives every text the same."""
        both = {0: "batch", 1: "length"} if self._tokenizer.fixed_length is None else {0: "batch"}
        return dict.fromkeys(self._arrays, both)

    @property
    def borders(self) -> StageBorders:
        """The network's inputs: the tokenizer is not in the graph."""
        return StageBorders(network=dict.fromkeys(self._arrays, ()))

    def describe(self) -> str:
        """Return the tokenizer, where texts are cut, and what padding does."""
        cut = f"cut to {self._spec.max_length} tokens (--max-length)"
        alone = f"{self._tokenizer.padding} by the tokenizer" if self._tokenizer.padding else ""
        if self._spec.pad_id is not None:
            together = "padded within a batch"
        elif self._tokenizer.fixed_length is not None:
            together = ""
        else:
            together = "not padded to share a batch, as scores would depend on it: texts of equal length do"
        padding = ", ".join(part for part in (alone, together) if part)
        pairs = "pairs of texts, " if self._pairs else ""
        return f"{pairs}{self._tokenizer.origin}, {cut}, {padding}"

    def assume_task(self, options: TaskOptions, _network: nn.Module, _value: Any) -> TaskOptions:
        """Return the options, with the task of the network's configuration."""
        task = options.task or self._task
        if task == "words" and self._pairs:
            raise PreprocessingError("--task words: is for single texts: expected no --text-pairs. Leave it out.")
        return options if task is None else replace(options, task=task)

    def cases(self) -> tuple[Case, ...]:
        """Return the user's texts and our own, up to one that is cut."""
        return self._cases

    def decoded_batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return cases of different lengths where padding is allowed, and else of the length that most of them have."""
        shared = list(cases)
        if self._spec.pad_id is None:
            lengths = [_length(self.prepare(case)) for case in cases]
            most = max(lengths, key=lengths.count)
            shared = [case for case, length in zip(cases, lengths, strict=True) if length == most]
        return tuple(shared[row % len(shared)] for row in range(max(BATCH_SIZES)))

    def decode(self, _case: Case) -> Arrays:
        """Return none: the graph takes tokens, which are prepared."""
        return {}

    def prepare(self, case: Case) -> PreparedInput:
        """Return the arrays of the user's own tokenizer."""
        by_name = self._tokenizer.reference(self._texts(case))
        arrays = {name: by_name[name] for name in self._arrays}
        return PreparedInput(
            arrays=arrays,
            tensors={name: torch.from_numpy(array) for name, array in arrays.items()},
            parts={} if self._pairs else self._tokenizer.words(*self._texts(case)),
        )

    def host_stages(self, model: Model) -> Mapping[Stage, ServedStage]:
        """Return the runtime's tokenizer."""

        def tokenize(reference: ReferenceOutput) -> Arrays:
            return model.stack([model.prepare(reference.case.data, subject=f"'{reference.case.name}'")])

        return {"tokens": host_stage("tokens", tokenize, takes="case")}

    def compare_whole(self, artifact: Artifact) -> Sequence[WholeCheck]:
        """Return the check of the artifact's tokenizer with the user's; none where it is the only one."""
        if self._tokenizer.from_artifact:
            return ()
        return (check_tokenizer(self._tokenizer.data, artifact.file(self._spec.tokenizer)),)

    def raw_graph_part(self) -> GraphPart:
        """Return the inputs alone: there are no strings in the graph."""
        shape = ["batch", self._tokenizer.fixed_length or "length"]
        return GraphPart(
            inputs=[helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in self._arrays], nodes=[]
        )

    def network_graph_part(self) -> None:
        """Return None: the graph takes the tokenizer's arrays."""

    def torchscript_part(self) -> TorchScriptPart:
        """Return that an archive begins with the tokenizer's arrays: libtorch has no tokenizer."""
        return TorchScriptPart()

    def example(self, prepared: Sequence[PreparedInput]) -> dict[str, torch.Tensor]:
        """Return two texts: one padded where that is allowed, so that the mask is traced as one that masks."""
        ordered = sorted(prepared[: len(prepared) // 2], key=_length)
        short, long = ordered[len(ordered) // 2], ordered[-1]
        return self._padded((short if self._spec.pad_id is not None else long, long))

    def validation_inputs(self, prepared: Sequence[PreparedInput]) -> tuple[Mapping[str, torch.Tensor], ...]:
        """Return some lengths from the shortest to the longest, and where padding is allowed a padded batch of them."""
        by_length = {_length(case): case for case in prepared}
        lengths = sorted(by_length)
        chosen = [by_length[length] for length in (*lengths[:3], lengths[len(lengths) // 2], lengths[-1])]
        padded = (self._padded(chosen[:4]),) if self._spec.pad_id is not None else ()
        return (*(case.tensors for case in chosen), *padded)

    def _texts(self, case: Case) -> tuple[str, ...]:
        return tuple(msgspec.json.decode(case.data, type=list[str])) if self._pairs else (case.data.decode(),)

    def _case(self, name: str, *texts: str, group: str) -> Case:
        return Case(name=name, data=msgspec.json.encode(texts) if self._pairs else texts[0].encode(), group=group)

    def _read_cases(self) -> tuple[Case, ...]:
        texts = _TEXTS if self._samples is None else self._read_samples(self._samples)
        # Every number of words up to a dozen, then longer by half, up to texts that are cut.
        counts, longest = list(range(1, 13)), 2 * self._tokenizer.max_length
        while counts[-1] < longest:
            counts.append(counts[-1] * 3 // 2)
        generated = [" ".join(_WORDS[number % len(_WORDS)] for number in range(count)) for count in counts]
        named: list[tuple[str, tuple[str, ...]]] = [(_short(text), (text,)) for text in texts]
        named += [(f"{count} words", (text,)) for count, text in zip(counts, generated, strict=True)]
        if self._pairs:
            seconds = [first for _, (first,) in reversed(named)]
            named = [(f"{name} | …", (*first, second)) for (name, first), second in zip(named, seconds, strict=True)]
        group = SAMPLES if self._samples is not None else SENTENCES
        return tuple(
            self._case(name, *parts, group=group if index < len(texts) else GENERATED)
            for index, (name, parts) in enumerate(named)
        )

    def _read_samples(self, samples: Path) -> tuple[str, ...]:
        """Return the lines of a text file."""
        try:
            lines = text_lines(samples)
        except InputError as error:
            raise ParityError(f"--samples: {error}") from error
        texts = tuple(lines[:_MAX_SAMPLES])
        if len(lines) > len(texts):
            self.skipped_samples = (f"in '{samples}', {len(lines) - len(texts)} of {len(lines)} texts: the last ones",)
        if not texts:
            raise ParityError(f"'{samples}': no texts: expected at least one line that is not blank. Check --samples.")
        return texts

    def _is_neutral(self, call: Callable[[Mapping[str, torch.Tensor]], Any]) -> bool:
        """Return whether the eager network gives the same for a text alone and one padded beside longer ones.

        Texts that the tokenizer pads to one length show nothing, and need no more padding.
        """
        prepared = [self.prepare(case) for case in self._cases]
        tried = prepared[:_TRIED]
        if len(set(map(_length, tried))) < 2:
            tried = list({_length(case): case for case in prepared}.values())
        cases = sorted(tried, key=_length)[:_TRIED]
        if len(set(map(_length, cases))) < 2:
            return False
        together = main_output(call(self._padded(cases)))
        alone = [main_output(call(case.tensors)) for case in cases]
        if together is None or any(output is None or output.shape[1:] != together.shape[1:] for output in alone):
            return False
        joined = torch.cat([output for output in alone if output is not None])
        return bool((joined - together).abs().max() <= _NEUTRAL_LIMIT * joined.abs().max())

    def _padded(self, cases: Sequence[PreparedInput]) -> dict[str, torch.Tensor]:
        longest = max(map(_length, cases))
        fill = {
            INPUT_IDS: self._tokenizer.pad_id or 0,
            ATTENTION_MASK: 0,
            TOKEN_TYPE_IDS: self._tokenizer.pad_type_id,
        }
        left = self._tokenizer.padding_side == "left"

        def pad(array: NDArray[np.int64], value: int) -> NDArray[np.int64]:
            missing = longest - array.shape[1]
            return np.pad(array, ((0, 0), (missing, 0) if left else (0, missing)), constant_values=value)

        return {
            name: torch.from_numpy(np.concatenate([pad(case.arrays[name], fill[name]) for case in cases]))
            for name in self._arrays
        }


def _length(prepared: PreparedInput) -> int:
    return int(prepared.arrays[INPUT_IDS].shape[1])


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"

"""Sentences, or pairs of them: tokenised on the host by the tokenizer of training, which the artifact carries."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from exporter.conversion.network_io import main_output
from exporter.errors import ParityError, PreprocessingError
from exporter.inputs.adapter import GraphPart
from exporter.inputs.text.tokenizer import FILE, ReadTokenizer
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import (
    BATCH_SIZES,
    GENERATED,
    SAMPLES,
    Arrays,
    Case,
    PreparedInput,
    ReferenceOutput,
    ServedPath,
)
from exporter.parity.paths import SubgraphCache, graph_stages, runtime_path, split_batch
from runtime.inputs.text.decoder import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from runtime.manifest import TextInput
from runtime.model import Model

TEXT = "text"
SENTENCES = "sentences"

# What tokenizers and masks get wrong shows on one of these: case, accents, other scripts, one word, no word of the
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

# Relative to the largest output: what a network that looks away from padding may differ by, with and without it.
_NEUTRAL_LIMIT = 1e-4


class TextAdapter:
    """Texts, from one word to more than the network takes.

    ``call`` runs the eager network on tensors by name. ``takes`` are the names of its forward's parameters. ``labels``
    and ``task`` are what a transformers configuration says of the classes; none without one.
    """

    noun = "texts"
    no_torchscript = "libtorch has no tokenizer"
    prepared_limit = 0.0
    decoder_tolerance = 0.0

    def __init__(
        self,
        tokenizing: ReadTokenizer,
        *,
        takes: Sequence[str],
        pairs: bool,
        samples: Path | None,
        config: Any,
        call: Callable[[Mapping[str, torch.Tensor]], Any],
    ) -> None:
        self._tokenizing = tokenizing
        self._arrays = tuple(name for name in tokenizing.arrays if name in takes)
        if INPUT_IDS not in self._arrays:
            raise PreprocessingError(
                f"{tokenizing.origin}: gives {', '.join(tokenizing.arrays)}, and the network's forward takes "
                f"{', '.join(map(repr, takes)) or 'nothing'}: expected '{INPUT_IDS}' among both. Name the forward's "
                "first parameter so."
            )
        self._pairs = pairs
        self._samples = samples
        self.skipped_samples: tuple[str, ...] = ()
        self.labels = _labels_of(config)
        self.task = _task_of(config)
        self._cases = self._read_cases()
        padded = tokenizing.pad_id is not None and self._is_neutral(call)
        self._spec = TextInput(
            name=TEXT,
            tokenizer=FILE,
            arrays=self._arrays,
            max_length=tokenizing.max_length,
            pad_id=tokenizing.pad_id if padded else None,
            pad_type_id=tokenizing.pad_type_id,
            padding_side=tokenizing.padding_side,
            pairs=pairs,
        )
        self.inputs = (self._spec,)
        self.files: Mapping[str, bytes] = {FILE: tokenizing.data}
        self.dimensions = {name: {0: "batch", 1: "length"} for name in self._arrays}

    def describe(self) -> str:
        """Return the tokenizer, where texts are cut, and what padding does."""
        cut = f"cut to {self._spec.max_length} tokens"
        assumed = "assumed; " if self._tokenizing.assumed else ""
        padding = (
            "padded within a batch"
            if self._spec.pad_id is not None
            else "never padded, as answers would depend on it: texts of equal length share a batch"
        )
        pairs = "pairs of texts, " if self._pairs else ""
        return f"{pairs}{self._tokenizing.origin}, {cut} ({assumed}--max-length), {padding}"

    def cases(self) -> tuple[Case, ...]:
        """Return the user's texts and our own, up to one that is cut."""
        return self._cases

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return cases of different lengths where padding is allowed, and else one over and over."""
        if self._spec.pad_id is None:
            return tuple(cases[:1]) * max(BATCH_SIZES)
        return tuple(cases[row % len(cases)] for row in range(max(BATCH_SIZES)))

    def prepare(self, case: Case) -> PreparedInput:
        """Return what the user's own tokenizer gives."""
        found = self._tokenizing.reference(self._texts(case))
        arrays = {name: found[name] for name in self._arrays}
        return PreparedInput(arrays=arrays, tensors={name: torch.from_numpy(array) for name, array in arrays.items()})

    def raw_graph_part(self) -> GraphPart:
        """Return the inputs alone: there are no strings in the graph."""
        return GraphPart(
            inputs=[
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in self._arrays
            ],
            nodes=[],
        )

    def network_graph_part(self) -> None:
        """Return None: the graph takes what the tokenizer gives."""

    def example(self, prepared: Sequence[PreparedInput]) -> dict[str, torch.Tensor]:
        """Return two texts: one padded where that is allowed, so that the mask is traced as one that masks."""
        ordered = sorted(prepared[: len(prepared) // 2], key=_length)
        short, long = ordered[len(ordered) // 2], ordered[-1]
        return self._padded((short if self._spec.pad_id is not None else long, long))

    def validation_inputs(self, prepared: Sequence[PreparedInput]) -> tuple[Mapping[str, torch.Tensor], ...]:
        """Return some lengths from the shortest to the longest, and where padding is allowed a padded batch of them."""
        by_length = {_length(one): one for one in prepared}
        lengths = sorted(by_length)
        some = [by_length[length] for length in (*lengths[:3], lengths[len(lengths) // 2], lengths[-1])]
        padded = (self._padded(some[:4]),) if self._spec.pad_id is not None else ()
        return (*(one.tensors for one in some), *padded)

    def to_torchscript(
        self, network: nn.Module, example: Mapping[str, torch.Tensor], postprocessing: Postprocessing
    ) -> None:
        """Return None: libtorch has no tokenizer, and traces fix what a mask is."""

    @contextmanager
    def open_paths(
        self, model: Model, folder: Path, postprocessing: Postprocessing, *, torchscript: str | None
    ) -> Iterator[Sequence[ServedPath]]:
        """Give the graph, with the host's tokens, and the runtime as it serves."""
        assert torchscript is None

        def tokenize(answer: ReferenceOutput) -> Arrays:
            return model.stack([model.prepare(answer.case.data, subject=f"'{answer.case.name}'")])

        def run(cases: Sequence[Case]) -> Sequence[Arrays]:
            stacked = model.stack([model.prepare(case.data, subject=f"'{case.name}'") for case in cases])
            return split_batch(model.run(stacked), model.manifest, len(cases))

        name = model.manifest.variants[0].model
        with TemporaryDirectory(prefix="truecopy-") as place, warnings.catch_warnings():
            # Some of our own texts are long on purpose.
            warnings.filterwarnings("ignore", message=".*longer than the", category=UserWarning)
            stages = graph_stages(
                SubgraphCache(folder, Path(place)), name, model, postprocessing, inputs=dict.fromkeys(self._arrays, ())
            )
            yield (
                ServedPath(name=name, stages=stages, run=run),
                runtime_path(model, stages={"tokens": tokenize, **stages}),
            )

    def _texts(self, case: Case) -> tuple[str, ...]:
        return tuple(msgspec.json.decode(case.data, type=list[str])) if self._pairs else (case.data.decode(),)

    def _case(self, name: str, *texts: str, group: str) -> Case:
        return Case(name=name, data=msgspec.json.encode(texts) if self._pairs else texts[0].encode(), group=group)

    def _read_cases(self) -> tuple[Case, ...]:
        own = _TEXTS if self._samples is None else self._read_samples(self._samples)
        # Every number of words up to a dozen, then longer by half, up to texts that are cut.
        counts, longest = list(range(1, 13)), 2 * self._tokenizing.max_length
        while counts[-1] < longest:
            counts.append(counts[-1] * 3 // 2)
        made = [" ".join(_WORDS[place % len(_WORDS)] for place in range(count)) for count in counts]
        named: list[tuple[str, tuple[str, ...]]] = [(_short(text), (text,)) for text in own]
        named += [(f"{count} words", (text,)) for count, text in zip(counts, made, strict=True)]
        if self._pairs:
            seconds = [texts[0] for _, texts in reversed(named)]
            named = [(f"{name} | …", (*texts, second)) for (name, texts), second in zip(named, seconds, strict=True)]
        group = SAMPLES if self._samples is not None else SENTENCES
        return tuple(
            self._case(name, *texts, group=group if place < len(own) else GENERATED)
            for place, (name, texts) in enumerate(named)
        )

    def _read_samples(self, samples: Path) -> tuple[str, ...]:
        """Return the lines of a text file."""
        try:
            lines = [line.strip() for line in samples.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ParityError(
                f"'{samples}': cannot be used as samples: expected a UTF-8 file with a text a line: {error}. "
                "Check --samples."
            ) from error
        found = [line for line in lines if line]
        texts = tuple(found[:_MAX_SAMPLES])
        if len(found) > len(texts):
            self.skipped_samples = (f"in '{samples}', {len(found) - len(texts)} of {len(found)} texts: the last ones",)
        if not texts:
            raise ParityError(f"'{samples}': no texts: expected at least one line that is not blank. Check --samples.")
        return texts

    def _is_neutral(self, call: Callable[[Mapping[str, torch.Tensor]], Any]) -> bool:
        """Return whether the eager network answers alike for a text alone and one padded beside longer ones."""
        some = sorted((self.prepare(case) for case in self._cases[:8]), key=_length)
        together = main_output(call(self._padded(some)))
        apart = [main_output(call(one.tensors)) for one in some]
        if together is None or any(one is None or one.shape[1:] != together.shape[1:] for one in apart):
            return False
        joined = torch.cat([one for one in apart if one is not None])
        return bool((joined - together).abs().max() <= _NEUTRAL_LIMIT * joined.abs().max())

    def _padded(self, some: Sequence[PreparedInput]) -> dict[str, torch.Tensor]:
        longest = max(map(_length, some))
        fill = {
            INPUT_IDS: self._tokenizing.pad_id or 0,
            ATTENTION_MASK: 0,
            TOKEN_TYPE_IDS: self._tokenizing.pad_type_id,
        }
        left = self._tokenizing.padding_side == "left"

        def pad(array: NDArray[np.int64], value: int) -> NDArray[np.int64]:
            missing = longest - array.shape[1]
            return np.pad(array, ((0, 0), (missing, 0) if left else (0, missing)), constant_values=value)

        return {
            name: torch.from_numpy(np.concatenate([pad(one.arrays[name], fill[name]) for one in some]))
            for name in self._arrays
        }


def _labels_of(config: Any) -> tuple[str, ...]:
    """Return the class names of a transformers configuration, unless they are those it makes up."""
    names = getattr(config, "id2label", None) or {}
    labels = tuple(str(names[index]) for index in sorted(names))
    return () if labels == tuple(f"LABEL_{index}" for index in range(len(labels))) else labels


def _task_of(config: Any) -> str | None:
    """Return what a transformers configuration says that its head is for; one class is a regression there."""
    kind = getattr(config, "problem_type", None)
    if kind == "multi_label_classification":
        return "multilabel"
    return "regress" if kind == "regression" or getattr(config, "num_labels", None) == 1 else None


def _length(prepared: PreparedInput) -> int:
    return int(prepared.arrays[INPUT_IDS].shape[1])


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"

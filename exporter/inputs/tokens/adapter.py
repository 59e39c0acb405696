"""Adapter of token sequences: whole numbers straight into the network, of every length that it takes."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from exporter.conversion.decoder_loop import SequenceProbe
from exporter.conversion.network_io import Arrays, main_output
from exporter.errors import ConversionError, ExportError, ParityError
from exporter.inputs.adapter import AdapterDefaults, GraphPart, TorchScriptPart
from exporter.inputs.lengths import LONGEST
from exporter.inputs.tokens.options import TokenInputs, TokenOptions
from exporter.inputs.tokens.vocabulary import Vocabulary
from exporter.options.task import TaskOptions
from exporter.parity.cases import BATCH_SIZES, SAMPLES, TEXTS, Case, PreparedInput, ServedStage, StageBorders
from exporter.parity.paths import decode_stage
from exporter.parity.whole import check_list
from runtime.artifact.open import Artifact
from runtime.errors import InputError
from runtime.evidence import Stage, WholeCheck
from runtime.inputs.encoding import text_lines
from runtime.inputs.text.decoder import LENGTH
from runtime.inputs.tokens.decoder import derived_inputs
from runtime.manifest import LAYOUT, TokensInput
from runtime.model import Model

# Every length up to the first, then longer by half; a network that takes the last one is assumed to take any.
_EVERY_LENGTH = 16
_LONGEST = 1024
# The longest sequence that is traced with, and compared where the user wants no other.
_TRIED_LENGTH = 192
_TRACED_LENGTH = 7

_MAX_SAMPLES = 48
_NEUTRAL_LIMIT = 1e-5


class TokensAdapter(AdapterDefaults):
    """Sequences of token numbers.

    ``call`` runs the eager network on tensors by name, and raises ConversionError where it fails. The vocabulary's size
    is that of the user's words, or of the embedding that takes the tokens; the longest sequence is found by trying.
    """

    noun = "sequences"
    prepared_limit = 0.0
    decoder_tolerance = 0.0

    def __init__(
        self,
        tokens: TokenInputs,
        network: nn.Module,
        options: TokenOptions,
        *,
        call: Callable[[Mapping[str, torch.Tensor]], Any],
    ) -> None:
        self._name = tokens.name
        self._derived = dict(tokens.derived_inputs)
        self._call = call
        self._generator = np.random.default_rng(0)
        self.network_probe = SequenceProbe(draw=self.draw, call=self._run)
        self._vocabulary = vocabulary = options.vocabulary
        self._words = vocabulary.words
        size, padding = _embedding_of(network, self._run)
        if self._words:
            size = len(self._words)
        if size is None:
            raise ConversionError(
                f"'{type(network).__name__}': how many tokens there are is unknown: expected an nn.Embedding that "
                "takes the tokens. Give the vocabulary, one word per line: --vocabulary FILE."
            )
        self._size = size
        self._pad_id = self._choose_padding(options.pad_id, padding, vocabulary)
        longest = self._longest(options.max_length)
        neutral = self._pad_id is not None and self._is_neutral(longest)
        self._spec = TokensInput(
            name=tokens.name,
            vocabulary_size=size,
            max_length=longest,
            vocabulary=LAYOUT.vocabulary if self._words else "",
            unknown=msgspec.UNSET if vocabulary.unknown is None else vocabulary.unknown,
            lowercase=vocabulary.lowercase or msgspec.UNSET,
            pad_id=self._pad_id if neutral else None,
            derived_inputs=self._derived,
        )
        self.skipped_samples: tuple[str, ...] = ()
        self.assumptions = (
            *([] if vocabulary.encode else ["what makes the token numbers of raw data: no part of the artifact"]),
            *vocabulary.assumptions,
            *(
                f"that '{name}' is the {kind} of the tokens: stated by options, not compared with training code"
                for name, kind in self._derived.items()
            ),
        )
        low, high = self._compared_lengths(options.lengths)
        self._cases = self._make_cases(options.samples, low, high)

    @property
    def inputs(self) -> tuple[TokensInput, ...]:
        """The sequence."""
        return (self._spec,)

    @property
    def files(self) -> Mapping[str, bytes]:
        """The vocabulary, where there is one."""
        return {LAYOUT.vocabulary: "".join(f"{word}\n" for word in self._words).encode()} if self._words else {}

    @property
    def dimensions(self) -> Mapping[str, Mapping[int, str]]:
        """Batch and length."""
        both = {0: "batch", 1: LENGTH}
        return {
            self._name: both,
            **{name: {0: "batch"} if kind == "lengths" else both for name, kind in self._derived.items()},
        }

    @property
    def borders(self) -> StageBorders:
        """The network's inputs: nothing stands before them."""
        return StageBorders(network=dict.fromkeys(self.dimensions, ()))

    def describe(self) -> str:
        """Return the vocabulary, the lengths, and what padding does."""
        size = f"{self._size} tokens" + ("" if self._words else " (assumed, from the embedding)")
        longest = self._spec.max_length
        lengths = f"of 1 to {longest}" if longest else "of any length"
        if self._spec.pad_id is not None:
            padding = f"padded with {self._spec.pad_id} within a batch"
        else:
            padding = "those of equal length share a batch"
            if self._pad_id is not None:
                padding += f", as results depend on padding with {self._pad_id}"
        return f"sequences {lengths}, {size}; {padding}"

    def assume_task(self, options: TaskOptions, network: nn.Module, value: Any) -> TaskOptions:
        """Return the options: with tokens as the task where the network gives some, and its own end token."""
        main = main_output(value)
        if options.task is None and main is not None and (main.ndim == 3 or not main.is_floating_point()):
            options = replace(options, task="tokens")
        end_id = getattr(network, "end_id", None)
        if options.end_id is None and isinstance(end_id, int):
            options = replace(options, end_id=end_id)
        return options

    def cases(self) -> tuple[Case, ...]:
        """Return the user's sequences, and random ones of every length that the network takes."""
        return self._cases

    def decoded_batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return cases of different lengths where padding is allowed, and else of one."""
        if self._spec.pad_id is not None:
            return tuple(cases[(5 * row) % len(cases)] for row in range(max(BATCH_SIZES)))
        length = min(_TRACED_LENGTH, self._spec.max_length or _TRACED_LENGTH)
        return tuple(self._case(f"batch {row}", self._draw(length)) for row in range(max(BATCH_SIZES)))

    def decode(self, case: Case) -> Arrays:
        """Return the numbers, int64 [1, length], and what is derived from them."""
        encode = self._vocabulary.encode
        if encode is not None and case.group == TEXTS:
            numbers = encode(case.data.decode())
        else:
            numbers = msgspec.json.decode(case.data, type=list[int])
        tokens = np.array([numbers], dtype=np.int64)
        return {self._name: tokens, **derived_inputs(self._derived, [tokens.shape[1]])}

    def prepare(self, case: Case) -> PreparedInput:
        """Return the numbers as torch has them."""
        arrays = self.decode(case)
        return PreparedInput(
            decoded=arrays, arrays=arrays, tensors={name: torch.from_numpy(array) for name, array in arrays.items()}
        )

    def host_stages(self, model: Model) -> Mapping[Stage, ServedStage]:
        """Return the runtime's decoder."""
        return {"decode": decode_stage(model)}

    def compare_whole(self, artifact: Artifact) -> Sequence[WholeCheck]:
        """Return the check of every word of the vocabulary, where there is one."""
        if not self._words:
            return ()
        name = next((spec.vocabulary for spec in artifact.manifest.inputs if isinstance(spec, TokensInput)), "")
        words = artifact.file(name).read_text(encoding="utf-8").splitlines() if name else []
        path, stage = name or LAYOUT.vocabulary, self.inputs_stage
        return (check_list(self._words, words, subject="vocabulary", path=path, stage=stage),)

    def raw_graph_part(self) -> GraphPart:
        """Return the input alone."""
        kinds = {self._name: "tokens", **self._derived}
        return GraphPart(
            inputs=[
                helper.make_tensor_value_info(
                    name,
                    TensorProto.BOOL if kinds[name] == "padding" else TensorProto.INT64,
                    [axes[axis] for axis in sorted(axes)],
                )
                for name, axes in self.dimensions.items()
            ],
            nodes=[],
        )

    def network_graph_part(self) -> None:
        """Return None: nothing is prepared."""

    def torchscript_part(self) -> TorchScriptPart:
        """Return that an archive begins with the tokens."""
        return TorchScriptPart()

    def example(self, _prepared: Sequence[PreparedInput]) -> dict[str, torch.Tensor]:
        """Return two sequences of one length, which no other dimension is likely to have."""
        return self._draw_inputs(2, min(_TRACED_LENGTH, self._spec.max_length or _TRACED_LENGTH))

    def validation_inputs(self, _prepared: Sequence[PreparedInput]) -> tuple[Mapping[str, torch.Tensor], ...]:
        """Return batches of other sizes and lengths."""
        longest = self._spec.max_length or _TRIED_LENGTH
        shapes = ((1, 1), (3, 1), (3, 2), (2, 13), (1, 29), (5, longest))
        return tuple(self._draw_inputs(batch, min(length, longest)) for batch, length in shapes)

    def draw(self, batch: int, length: int) -> torch.Tensor:
        """Return random tokens, int64 [batch, length], none of them padding."""
        return torch.from_numpy(np.stack([self._draw(length) for _ in range(batch)]))

    def _draw_inputs(self, batch: int, length: int) -> dict[str, torch.Tensor]:
        """Return random sequences, the first of them of that length; the others shorter, where a batch is padded."""
        tokens, lengths = self.draw(batch, length), [length] * batch
        if self._derived and self._spec.pad_id is not None:
            lengths[1:] = (int(number) for number in self._generator.integers(1, length + 1, batch - 1))
            for row, count in enumerate(lengths):
                tokens[row, count:] = self._spec.pad_id
        return self._inputs(tokens, lengths)

    def _inputs(self, tokens: torch.Tensor, lengths: Sequence[int]) -> dict[str, torch.Tensor]:
        others = {name: torch.from_numpy(array) for name, array in derived_inputs(self._derived, lengths).items()}
        return {self._name: tokens, **others}

    def _run(self, tokens: torch.Tensor, lengths: Sequence[int] | None = None) -> Any:
        """Return what the eager network returns for int64 [batch, length]; ``lengths`` where some rows are padded."""
        return self._call(self._inputs(tokens, lengths or [tokens.shape[1]] * tokens.shape[0]))

    def _draw(self, length: int) -> NDArray[np.int64]:
        tokens = self._generator.integers(0, self._size, length)
        pad = self._pad_id
        # Padding inside a sequence is not what training has.
        return tokens if pad is None or self._size < 2 else np.where(tokens == pad, (pad + 1) % self._size, tokens)

    def _case(self, name: str, tokens: NDArray[np.int64]) -> Case:
        return Case(name=name, data=msgspec.json.encode(tokens.tolist()))

    def _choose_padding(self, pad_id: int | None, embedding: int | None, vocabulary: Vocabulary) -> int | None:
        """Return the padding token to try: the user's, the embedding's, or the vocabulary's."""
        own = vocabulary.padding
        if pad_id is None and embedding is not None and own is not None and own != embedding:
            raise ExportError(
                f"--vocabulary: its padding word '{vocabulary.words[own]}' has the number {own}, and the network pads "
                f"with {embedding}. Pass the one of training with --pad-id."
            )
        if pad_id is not None and not 0 <= pad_id < self._size:
            raise ExportError(
                f"--pad-id: outside the vocabulary: expected 0 to {self._size - 1}, got {pad_id}. Use the pad token "
                "that the model was trained with."
            )
        chosen = next((number for number in (pad_id, embedding, own) if number is not None), None)
        # A network that is told where padding is does not look at the token: this is tried.
        return 0 if chosen is None and self._derived else chosen

    def _takes(self, length: int) -> bool:
        try:
            self._run(self.draw(1, length))
        except ConversionError:
            return False
        return True

    def _longest(self, max_length: int | None) -> int | None:
        """Return the longest sequence that the eager network takes; None where there seems to be no limit."""
        if max_length is not None:
            if max_length < 1:
                raise ExportError(
                    f"--max-length: expected at least 1 token, got {max_length}. Use the length of training."
                )
            self._run(self.draw(1, max_length))
            return max_length
        self._run(self.draw(1, 1))
        length = 1
        while self._takes(min(2 * length, _LONGEST)):
            length = min(2 * length, _LONGEST)
            if length == _LONGEST:
                return None
        low, high = length, 2 * length
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._takes(middle) else (low, middle)
        return low

    def _is_neutral(self, longest: int | None) -> bool:
        """Return whether the eager network gives the same for a sequence alone and one padded at its end."""
        for length in (1, 3, 8):
            if longest is not None and length + 4 > longest:
                break
            tokens = self.draw(1, length)
            padded = torch.cat([tokens, torch.full((1, 4), self._pad_id or 0, dtype=torch.int64)], dim=1)
            alone = main_output(self._run(tokens))
            # Beside a sequence that fills the array, as in any batch.
            try:
                batch = main_output(self._run(torch.cat([padded, self.draw(1, length + 4)]), [length, length + 4]))
            except ConversionError:  # such as a pack_padded_sequence that wants sequences sorted by their lengths
                return False
            if alone is None or batch is None or not alone.is_floating_point() or alone.ndim != 2:
                return False
            in_batch = batch[:1]
            if alone.shape != in_batch.shape:
                return False
            if not bool((alone - in_batch).abs().max() <= _NEUTRAL_LIMIT * alone.abs().max()):
                return False
        return True

    def _compared_lengths(self, lengths: tuple[int, int] | None) -> tuple[int, int]:
        """Return the shortest and the longest sequence to compare."""
        longest = self._spec.max_length
        if lengths is None:
            return 1, longest or LONGEST
        if longest is not None and lengths[1] > longest:
            raise ExportError(
                f"--lengths: expected at most {longest}, the longest sequence that the eager network takes, or "
                f"--max-length, got {lengths[1]}. Give the range that it takes."
            )
        for length in lengths:
            self._run(self.draw(1, length))
        return lengths

    def _make_cases(self, samples: Path | None, low: int, high: int) -> tuple[Case, ...]:
        lengths = list(range(1, _EVERY_LENGTH + 1))
        while lengths[-1] < high:
            lengths.append(min(lengths[-1] * 3 // 2, high))
        lengths = sorted({low, *(length for length in lengths if low < length < high), high})
        user_cases = self._read_samples(samples) if samples is not None else ()
        random_cases = [
            self._case(f"length {length}{', again' * again}", self._draw(length))
            for length in lengths
            for again in range(2 if length <= _EVERY_LENGTH else 1)
        ]
        texts = self._vocabulary.texts(low, high)
        return (*user_cases, *random_cases, *(Case(name=text, data=text.encode(), group=TEXTS) for text in texts))

    def _read_samples(self, samples: Path) -> tuple[Case, ...]:
        """Return the lines of a text file: token numbers with blanks or commas between."""
        try:
            sequences = list(_sequences(text_lines(samples)))
        except InputError as error:
            raise ParityError(f"--samples: {error}") from error
        except ValueError as error:
            raise ParityError(
                f"'{samples}': cannot be used as samples: expected a file with one sequence of numbers per line: "
                f"{error}. Check --samples."
            ) from error
        if not sequences:
            raise ParityError(f"'{samples}': no sequences: expected at least one line. Check --samples.")
        if len(sequences) > _MAX_SAMPLES:
            self.skipped_samples = (
                f"in '{samples}', {len(sequences) - _MAX_SAMPLES} of {len(sequences)} lines: the last ones",
            )
        return tuple(
            Case(name=f"line {row + 1}", data=msgspec.json.encode(tokens), group=SAMPLES)
            for row, tokens in enumerate(sequences[:_MAX_SAMPLES])
        )


def _sequences(lines: Sequence[str]) -> Iterator[list[int]]:
    for line in lines:
        yield [int(part) for part in re.split(r"[\s,]+", line.strip(" \t[],"))]


def _embedding_of(network: nn.Module, run: Callable[[torch.Tensor], Any]) -> tuple[int | None, int | None]:
    """Return the size and padding token of the embedding that is given the tokens as they are, seen by running it."""
    tokens = torch.zeros((1, 3), dtype=torch.int64)
    embeddings: list[nn.Embedding | nn.EmbeddingBag] = []

    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and inputs and isinstance(inputs[0], torch.Tensor):
            first = inputs[0]
            if first.shape == tokens.shape and bool((first == tokens).all()) and first.data_ptr() == tokens.data_ptr():
                embeddings.append(module)

    hooks = [module.register_forward_pre_hook(record) for module in network.modules()]
    try:
        run(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    if not embeddings:
        return None, None
    return embeddings[0].num_embeddings, embeddings[0].padding_idx

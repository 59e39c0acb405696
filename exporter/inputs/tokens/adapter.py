"""Token sequences: whole numbers straight into the network, of every length that it takes."""

import re
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
from exporter.errors import ConversionError, ExportError, ParityError
from exporter.inputs.adapter import GraphPart
from exporter.outputs.postprocessing import Postprocessing
from exporter.parity.cases import BATCH_SIZES, SAMPLES, Arrays, Case, PreparedInput, ServedPath
from exporter.parity.paths import SubgraphCache, decode_stage, graph_stages, runtime_path, split_batch
from runtime.inputs.tokens.decoder import derived_inputs
from runtime.manifest import DerivedInput, TokensInput
from runtime.model import Model

VOCABULARY = "vocabulary.txt"

_SPEC = re.compile(
    r"(?P<name>[^\s=]+)=(?P<kind>(tokens|mask|padding)(?=\[\s*batch\s*,\s*length\s*\])|lengths(?=\[\s*batch\s*\]))\[.*\]"
)

# Every length up to the first, then longer by half; a network that takes the last one is taken to take any.
_EVERY_LENGTH = 16
_LONGEST = 1024
# Of the lengths that are compared; a longer one only tells that the network takes it.
_COMPARED_LENGTH = 192
_TRACED_LENGTH = 7

_MAX_SAMPLES = 48
_NEUTRAL_LIMIT = 1e-5


def is_tokens(text: str) -> bool:
    """Return whether ``text`` describes token sequences: ``NAME=tokens[batch,length]``."""
    return "=tokens" in text


def read_token_inputs(texts: Sequence[str]) -> tuple[str, dict[str, DerivedInput]]:
    """Return the name in ``NAME=tokens[batch,length]``, and what the network takes beside the tokens, by name.

    Raises ExportError when they do not read so.
    """
    kinds: dict[str, str] = {}
    for text in texts:
        found = _SPEC.fullmatch(text.strip())
        if not found:
            raise ExportError(
                f"--input '{text}': not token sequences: expected NAME=tokens[batch,length], and beside it "
                "NAME=lengths[batch], NAME=mask[batch,length] or NAME=padding[batch,length], which are made of the "
                "tokens. Correct it, or describe all of them as int64 arrays."
            )
        kinds[found["name"]] = found["kind"]
    name = next(iter(kinds))
    if len(kinds) < len(texts) or kinds.pop(name) != "tokens" or "tokens" in kinds.values():
        raise ExportError(
            "--input: expected one NAME=tokens[batch,length], the first of them, and other names for what comes beside "
            f"it, got {', '.join(texts)}. Describe several sequences as int64 arrays."
        )
    return name, kinds  # type: ignore[return-value]  # the expression knows the words


class TokensAdapter:
    """Sequences of token numbers.

    ``call`` runs the eager network on tensors by name, and raises ConversionError where it fails. The vocabulary's size
    is that of ``words``, or of the embedding that takes the tokens; the longest sequence is found by trying.
    """

    noun = "sequences"
    no_torchscript = "a trace keeps the length it was made with, where a network looks at it"
    prepared_limit = 0.0
    decoder_tolerance = 0.0

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        derived_inputs: Mapping[str, DerivedInput] | None = None,
        words: Sequence[str],
        pad_id: int | None,
        max_length: int | None,
        samples: Path | None,
        call: Callable[[Mapping[str, torch.Tensor]], Any],
    ) -> None:
        self._name = name
        self._call = call
        self._beside = dict(derived_inputs or {})
        self._generator = np.random.default_rng(0)
        self._size, self._padding = _embedding_of(network, self._run)
        self._assumed_size = not words
        if words:
            self._size = len(words)
        if self._size is None:
            raise ConversionError(
                f"'{type(network).__name__}': how many tokens there are is unknown: expected an nn.Embedding that "
                "takes the tokens. Give the vocabulary, a word a line: --vocabulary FILE."
            )
        if pad_id is not None and not 0 <= pad_id < self._size:
            raise ExportError(
                f"--pad-id: outside the vocabulary: expected 0 to {self._size - 1}, got {pad_id}. Give training's."
            )
        self._wanted_pad = self._padding if pad_id is None else pad_id
        if self._wanted_pad is None and self._beside:
            self._wanted_pad = 0  # a network that is told where padding is does not look at it: this is tried
        longest = self._longest(max_length)
        neutral = self._wanted_pad is not None and self._is_neutral(longest)
        self._spec = TokensInput(
            name=name,
            vocabulary_size=self._size,
            max_length=longest,
            vocabulary=VOCABULARY if words else "",
            pad_id=self._wanted_pad if neutral else None,
            derived_inputs=self._beside,
        )
        self.inputs = (self._spec,)
        self.files: Mapping[str, bytes] = {VOCABULARY: "".join(f"{word}\n" for word in words).encode()} if words else {}
        self.dimensions = {
            name: {0: "batch", 1: "length"},
            **{
                key: {0: "batch"} if kind == "lengths" else {0: "batch", 1: "length"}
                for key, kind in self._beside.items()
            },
        }
        self._samples = samples
        self.skipped_samples: tuple[str, ...] = ()
        self._cases = self._read_cases()

    def describe(self) -> str:
        """Return the vocabulary, the lengths, and what padding does."""
        size = f"{self._size} tokens" + (" (assumed, from the embedding)" if self._assumed_size else "")
        longest = self._spec.max_length
        lengths = f"of 1 to {longest}" if longest else "of any length"
        if self._spec.pad_id is not None:
            padding = f"padded with {self._spec.pad_id} within a batch"
        else:
            padding = "those of equal length share a batch"
            if self._wanted_pad is not None:
                padding += f", as answers depend on padding with {self._wanted_pad}"
        return f"sequences {lengths}, {size}; {padding}"

    def cases(self) -> tuple[Case, ...]:
        """Return the user's sequences, and random ones of every length that the network takes."""
        return self._cases

    def batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return cases of different lengths where padding is allowed, and else of one."""
        if self._spec.pad_id is not None:
            return tuple(cases[(5 * row) % len(cases)] for row in range(max(BATCH_SIZES)))
        length = min(_TRACED_LENGTH, self._spec.max_length or _TRACED_LENGTH)
        return tuple(self._case(f"batch {row}", self._draw(length)) for row in range(max(BATCH_SIZES)))

    def prepare(self, case: Case) -> PreparedInput:
        """Return the numbers as torch has them."""
        tokens = np.array([msgspec.json.decode(case.data, type=list[int])], dtype=np.int64)
        arrays = {self._name: tokens, **derived_inputs(self._beside, [tokens.shape[1]])}
        return PreparedInput(
            decoded=arrays, arrays=arrays, tensors={name: torch.from_numpy(array) for name, array in arrays.items()}
        )

    def raw_graph_part(self) -> GraphPart:
        """Return the input alone."""
        kinds = {self._name: "tokens", **self._beside}
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

    def example(self, _prepared: Sequence[PreparedInput]) -> dict[str, torch.Tensor]:
        """Return two sequences of one length, which is none that anything else is likely to have."""
        return self._draw_inputs(2, min(_TRACED_LENGTH, self._spec.max_length or _TRACED_LENGTH))

    def validation_inputs(self, _prepared: Sequence[PreparedInput]) -> tuple[Mapping[str, torch.Tensor], ...]:
        """Return batches of other sizes and lengths."""
        longest = self._spec.max_length or _COMPARED_LENGTH
        shapes = ((1, 1), (3, 1), (3, 2), (2, 13), (1, 29), (5, longest))
        return tuple(self._draw_inputs(batch, min(length, longest)) for batch, length in shapes)

    def draw(self, batch: int, length: int) -> torch.Tensor:
        """Return random tokens, int64 [batch, length], none of them padding."""
        return torch.from_numpy(np.stack([self._draw(length) for _ in range(batch)]))

    def _draw_inputs(self, batch: int, length: int) -> dict[str, torch.Tensor]:
        """Return random sequences, the first of them of that length; the others shorter, where a batch is padded."""
        tokens, lengths = self.draw(batch, length), [length] * batch
        if self._beside and self._spec.pad_id is not None:
            lengths[1:] = (int(number) for number in self._generator.integers(1, length + 1, batch - 1))
            for row, count in enumerate(lengths):
                tokens[row, count:] = self._spec.pad_id
        return self._inputs(tokens, lengths)

    def _inputs(self, tokens: torch.Tensor, lengths: Sequence[int]) -> dict[str, torch.Tensor]:
        others = {name: torch.from_numpy(array) for name, array in derived_inputs(self._beside, lengths).items()}
        return {self._name: tokens, **others}

    def call(self, tokens: torch.Tensor) -> Any:
        """Return what the eager network returns for tokens, int64 [batch, length], none of them padding."""
        return self._run(tokens)

    def _run(self, tokens: torch.Tensor, lengths: Sequence[int] | None = None) -> Any:
        """Return what the eager network returns; ``lengths`` are the sequences' where some are padded."""
        return self._call(self._inputs(tokens, lengths or [tokens.shape[1]] * tokens.shape[0]))

    def to_torchscript(
        self, network: nn.Module, example: Mapping[str, torch.Tensor], postprocessing: Postprocessing
    ) -> None:
        """Return None: a trace of a sequence keeps the length it was made with, where the network looks at it."""

    @contextmanager
    def open_paths(
        self, model: Model, folder: Path, postprocessing: Postprocessing, *, torchscript: str | None
    ) -> Iterator[Sequence[ServedPath]]:
        """Give the graph as it is, and the runtime as it serves."""
        assert torchscript is None

        def run(cases: Sequence[Case]) -> Sequence[Arrays]:
            stacked = model.stack([model.prepare(case.data, subject=f"'{case.name}'") for case in cases])
            return split_batch(model.run(stacked), model.manifest, len(cases))

        name = model.manifest.variants[0].model
        with TemporaryDirectory(prefix="truecopy-") as place:
            stages = graph_stages(
                SubgraphCache(folder, Path(place)),
                name,
                model,
                postprocessing,
                inputs=dict.fromkeys(self.dimensions, ()),
            )
            yield (
                ServedPath(name=name, stages=stages, run=run),
                runtime_path(model, stages={"decode": decode_stage(model), **stages}),
            )

    def _draw(self, length: int) -> NDArray[np.int64]:
        assert self._size is not None
        tokens = self._generator.integers(0, self._size, length)
        pad = self._wanted_pad
        # Padding inside a sequence is not what training has.
        return tokens if pad is None or self._size < 2 else np.where(tokens == pad, (pad + 1) % self._size, tokens)

    def _case(self, name: str, tokens: NDArray[np.int64]) -> Case:
        return Case(name=name, data=msgspec.json.encode(tokens.tolist()))

    def _takes(self, length: int) -> bool:
        try:
            self._run(self.draw(1, length))
        except ConversionError:
            return False
        return True

    def _longest(self, asked: int | None) -> int | None:
        """Return the longest sequence that the eager network takes; None where there seems to be no limit."""
        if asked is not None:
            if asked < 1:
                raise ExportError(f"--max-length: expected at least 1 token, got {asked}. Give training's.")
            self._run(self.draw(1, asked))
            return asked
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
        """Return whether the eager network answers alike for a sequence alone and one padded at its end."""
        for length in (1, 3, 8):
            if longest is not None and length + 4 > longest:
                break
            alone = self.draw(1, length)
            padded = torch.cat([alone, torch.full((1, 4), self._wanted_pad or 0, dtype=torch.int64)], dim=1)
            one = main_output(self._run(alone))
            # Beside one that fills the array, as in any batch.
            try:
                both = main_output(self._run(torch.cat([padded, self.draw(1, length + 4)]), [length, length + 4]))
            except ConversionError:  # such as a pack_padded_sequence that wants sequences sorted by their lengths
                return False
            if one is None or both is None or not one.is_floating_point() or one.ndim != 2:
                return False
            other = both[:1]
            if one.shape != other.shape:
                return False
            if not bool((one - other).abs().max() <= _NEUTRAL_LIMIT * one.abs().max()):
                return False
        return True

    def _read_cases(self) -> tuple[Case, ...]:
        longest = self._spec.max_length
        lengths = list(range(1, _EVERY_LENGTH + 1))
        while lengths[-1] < _COMPARED_LENGTH:
            lengths.append(min(lengths[-1] * 3 // 2, _COMPARED_LENGTH))
        if longest is not None:
            lengths = [length for length in lengths if length < longest] + [longest]
        user = self._read_samples(self._samples) if self._samples is not None else ()
        made = [
            self._case(f"length {length}{', again' * again}", self._draw(length))
            for length in lengths
            for again in range(2 if length <= _EVERY_LENGTH else 1)
        ]
        return (*user, *made)

    def _read_samples(self, samples: Path) -> tuple[Case, ...]:
        """Return the lines of a text file: token numbers with blanks or commas between."""
        try:
            lines = samples.read_text(encoding="utf-8-sig").splitlines()
            found = [
                [int(part) for part in re.split(r"[\s,]+", line.strip(" \t[],"))] for line in lines if line.strip()
            ]
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise ParityError(
                f"'{samples}': cannot be used as samples: expected a UTF-8 file with a sequence of numbers a line: "
                f"{error}. Check --samples."
            ) from error
        if not found:
            raise ParityError(f"'{samples}': no sequences: expected at least one line. Check --samples.")
        if len(found) > _MAX_SAMPLES:
            self.skipped_samples = (
                f"in '{samples}', {len(found) - _MAX_SAMPLES} of {len(found)} lines: the last ones",
            )
        return tuple(
            Case(name=f"line {row + 1}", data=msgspec.json.encode(tokens), group=SAMPLES)
            for row, tokens in enumerate(found[:_MAX_SAMPLES])
        )


def _embedding_of(network: nn.Module, run: Callable[[torch.Tensor], Any]) -> tuple[int | None, int | None]:
    """Return the size and padding token of the embedding that is given the tokens as they are, seen by running it."""
    tokens = torch.zeros((1, 3), dtype=torch.int64)
    found: list[nn.Embedding] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding) and inputs and isinstance(inputs[0], torch.Tensor):
            given = inputs[0]
            if given.shape == tokens.shape and bool((given == tokens).all()) and given.data_ptr() == tokens.data_ptr():
                found.append(module)

    hooks = [module.register_forward_pre_hook(note) for module in network.modules()]
    try:
        run(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        return None, None
    return found[0].num_embeddings, found[0].padding_idx

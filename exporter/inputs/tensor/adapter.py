"""Adapter of plain arrays, which the network takes as they are."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import msgspec
import numpy as np
import torch
from msgspec import UNSET
from numpy.typing import NDArray
from onnx import helper

from exporter.errors import ConversionError, ExportError, ParityError
from exporter.inputs.adapter import AdapterDefaults, GraphPart, TorchScriptPart, example_of, one_of_each_shape
from exporter.inputs.lengths import LONGEST, LONGEST_OF_SEVERAL, check_names, range_of, sample_lengths
from exporter.inputs.tensor.drawing import KINDS, WHOLE, Drawing, find_drawing
from exporter.parity.cases import BATCH_SIZES, SAMPLES, Case, PreparedInput, ServedStage, StageBorders
from exporter.parity.paths import decode_stage
from runtime.errors import InputError, listed
from runtime.evidence import Stage
from runtime.inputs.tensor.decoder import read_arrays
from runtime.manifest import Input, NumberType, TensorInput
from runtime.model import Model

_SPEC = re.compile(r"(?P<name>[^\s=]+)=(?P<dtype>[a-z0-9]+)\[(?P<shape>[^\[\]]*)\]")

_FIXED_CASES = 12
_MAX_SAMPLES = 24
_SEEDS = (0, 1)


def read_input(text: str) -> TensorInput:
    """Return the input that ``text`` describes, such as ``x=float32[batch,3,28,28]``; its batch comes first.

    Raises ExportError for any other text.
    """
    match = _SPEC.fullmatch(text.strip())
    shape: tuple[int | str, ...] = ()
    if match:
        parts = [part.strip() for part in match["shape"].split(",")]
        shape = tuple(int(part) if part.isdigit() else part for part in parts)
    names = [part for part in shape if isinstance(part, str)]
    valid = (
        match is not None
        and match["dtype"] in get_args(NumberType)
        and all(name.isidentifier() for name in names)
        and 0 not in shape
        and names.count("batch") == 1
    )
    if match and "batch" not in shape and 1 in shape:
        own = list(shape)
        own[own.index(1)] = "batch"
        raise ExportError(
            f"--input '{text}': no batch dimension. Name it, as in '{match['name']}={match['dtype']}"
            f"[{','.join(map(str, own))}]'; whether the network takes more than one input at a time is found by trying."
        )
    if not match or not valid:
        raise ExportError(
            f"--input '{text}': not an input: expected NAME=DTYPE[batch,...] with lengths or names for them, such as "
            f"'x=float32[batch,3,28,28]', and a dtype of {', '.join(get_args(NumberType))}. Correct it."
        )
    axis = shape.index("batch")
    return TensorInput(
        name=match["name"],
        dtype=match["dtype"],  # type: ignore[arg-type]  # checked
        shape=("batch", *shape[:axis], *shape[axis + 1 :]),
        batch_axis=axis or UNSET,
    )


def input_to_text(spec: TensorInput) -> str:
    """Return an input as ``read_input`` takes it."""
    axis = spec.batch_axis if isinstance(spec.batch_axis, int) else 0
    shape = (*spec.shape[1 : axis + 1], "batch", *spec.shape[axis + 1 :])
    return f"{spec.name}={spec.dtype}[{','.join(map(str, shape))}]"


def read_batch_axes(inputs: Sequence[str]) -> dict[str, int]:
    """Return the batch's dimension in each input of the network, by name; none where it is the first in all of them.

    Texts of other kinds of inputs, and those that ``read_input`` refuses, have it first.
    """
    axes = {}
    for text in inputs:
        match = _SPEC.fullmatch(text.strip())
        parts = [part.strip() for part in match["shape"].split(",")] if match else []
        axes[text.partition("=")[0].strip()] = parts.index("batch") if "batch" in parts else 0
    return axes if any(axes.values()) else {}


class TensorAdapter(AdapterDefaults):
    """Arrays, one per input; nothing is done to them before the network.

    ``probe`` runs the eager network on tensors by name, and raises ConversionError where it does not take their shapes.
    """

    files: Mapping[str, bytes] = {}
    noun = "inputs"
    prepared_limit = 0.0
    decoder_tolerance = 0.0

    def __init__(
        self,
        specs: Sequence[TensorInput],
        *,
        samples: Path | None,
        lengths: Mapping[str, tuple[int, int]] = MappingProxyType({}),
        probe: Callable[[Mapping[str, torch.Tensor]], Any],
    ) -> None:
        names = [spec.name for spec in specs]
        if len(set(names)) < len(names):
            raise ExportError(
                f"--input: two of one name: expected different names, got {', '.join(names)}. Rename one."
            )
        self._specs = tuple(specs)
        self._samples = samples
        self._probe = probe
        self._names = list(dict.fromkeys(name for spec in specs for name in spec.shape[1:] if isinstance(name, str)))
        check_names(lengths, self._names)
        self._ranges = {name: known for name in self._names if (known := range_of(name, lengths)) is not None}
        self.skipped_samples: tuple[str, ...] = ()
        self.assumptions = ("what makes the arrays of raw data: no part of the artifact",)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The arrays."""
        signs = self._drawing.not_negative
        return tuple(
            msgspec.structs.replace(spec, not_negative=signs[spec.name]) if spec.name in signs else spec
            for spec in self._specs
        )

    @cached_property
    def _drawing(self) -> Drawing:
        """How inputs are drawn, and what indexes rows: found by trying."""
        return find_drawing(self._specs, self._names, self._refusal_of_arrays)

    @property
    def dimensions(self) -> Mapping[str, Mapping[int, str]]:
        """The named dimensions."""
        return {
            spec.name: {axis: name for axis, name in enumerate(spec.shape) if isinstance(name, str)}
            for spec in self._specs
        }

    @property
    def borders(self) -> StageBorders:
        """The network's inputs: nothing stands before them."""
        return StageBorders(network={spec.name: () for spec in self._specs})

    def describe(self) -> str:
        """Return the inputs as the user wrote them."""
        moved = [spec.name for spec in self._specs if spec.batch_axis]
        note = f"; the artifact's {', '.join(map(repr, moved))} has the batch first" if moved else ""
        return f"arrays as they are: {', '.join(map(input_to_text, self._specs))}{note}"

    def cases(self) -> tuple[Case, ...]:
        """Return the user's arrays, or random ones of every length that the network takes.

        Raises ConversionError where a named dimension turns out to have one length.
        """
        return self._own_cases() if self._samples is None else self._user_cases(self._samples)

    def decoded_batch(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return cases of one shape: those of the shape that most have, over and over."""
        shapes = [tuple(array.shape for array in self.decode(case).values()) for case in cases]
        common = max(shapes, key=shapes.count)
        chosen = [case for case, shape in zip(cases, shapes, strict=True) if shape == common]
        return tuple(chosen[row % len(chosen)] for row in range(max(BATCH_SIZES)))

    def decode(self, case: Case) -> dict[str, NDArray[Any]]:
        """Return a case's arrays, read by numpy alone, each with a batch dimension of one."""
        with io.BytesIO(case.data) as stream:
            loaded = np.load(stream, allow_pickle=False)
            if len(self._specs) == 1:
                return {self._specs[0].name: loaded[np.newaxis]}
            return {spec.name: loaded[spec.name][np.newaxis] for spec in self._specs}

    def prepare(self, case: Case) -> PreparedInput:
        """Return the arrays as torch has them."""
        arrays = self.decode(case)
        return PreparedInput(
            decoded=arrays, arrays=arrays, tensors={name: torch.from_numpy(array) for name, array in arrays.items()}
        )

    def host_stages(self, model: Model) -> Mapping[Stage, ServedStage]:
        """Return the runtime's decoder."""
        return {"decode": decode_stage(model)}

    def example(self, prepared: Sequence[PreparedInput]) -> Mapping[str, torch.Tensor]:
        """Return two cases of one shape."""
        return example_of(prepared)

    def validation_inputs(self, prepared: Sequence[PreparedInput]) -> Sequence[Mapping[str, torch.Tensor]]:
        """Return one input of every shape, where more than the batch is dynamic."""
        return one_of_each_shape(prepared, self.dimensions)

    def raw_graph_part(self) -> GraphPart:
        """Return the inputs alone."""
        return GraphPart(
            inputs=[
                helper.make_tensor_value_info(
                    spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), list(spec.shape)
                )
                for spec in self._specs
            ],
            nodes=[],
        )

    def network_graph_part(self) -> None:
        """Return None: nothing is prepared."""

    def torchscript_part(self) -> TorchScriptPart:
        """Return that an archive takes the network's own inputs."""
        return TorchScriptPart()

    def _encode(self, arrays: Mapping[str, NDArray[Any]]) -> bytes:
        stream = io.BytesIO()
        if len(arrays) == 1:
            np.save(stream, next(iter(arrays.values())), allow_pickle=False)
        else:
            np.savez(stream, allow_pickle=False, **arrays)
        return stream.getvalue()

    def _own_cases(self) -> tuple[Case, ...]:
        drawing = self._drawing
        generators = [np.random.default_rng(seed) for seed in _SEEDS]
        cases: list[Case] = []
        accepted, refused = ({name: set[int]() for name in self._names} for _ in range(2))
        refusals: dict[str, str] = {}
        rows = self._length_rows()
        for row, lengths in enumerate([*rows, rows[len(rows) // 2]]):
            kinds = KINDS[:2] if self._names else (KINDS[row % len(KINDS)],)
            for kind in kinds if row < len(rows) else (WHOLE,):
                seed = (row + len(cases)) % len(_SEEDS)
                case = self._random_case(drawing, row, kind, lengths, seed, generators[seed])
                if refusal := self._refusal(self.prepare(case).tensors):
                    refusals[case.name] = refusal
                cases += [] if refusal else [case]
                for name, length in lengths.items():
                    (refused if refusal else accepted)[name].add(length)
                if refusal:
                    break
        self._check_accepted(accepted, refusals, any_case=bool(cases))
        if refusals:
            name, reason = next(iter(refusals.items()))
            count = f"{len(refusals)} of {len(refusals) + len(cases)} generated inputs"
            self.skipped_samples = (
                f"{count}: the eager network refuses them, such as '{name}': {reason}",
                *_gaps(accepted, refused),
            )
        return tuple(cases)

    def _length_rows(self) -> list[dict[str, int]]:
        """Return the lengths of each row of cases: different ones for different dimensions."""
        if not self._names:
            return [{}] * _FIXED_CASES
        default = (1, LONGEST if len(self._names) == 1 else LONGEST_OF_SEVERAL)
        samples = {name: sample_lengths(*self._ranges.get(name, default)) for name in self._names}
        # None is taken for another.
        return [
            {name: lengths[(row + 3 * number) % len(lengths)] for number, (name, lengths) in enumerate(samples.items())}
            for row in range(max(map(len, samples.values())))
        ]

    def _check_accepted(self, accepted: Mapping[str, set[int]], refusals: Mapping[str, str], *, any_case: bool) -> None:
        """Raise ConversionError where the network takes too little of what the user described."""
        refusal = next(iter(refusals.values()), "")
        fixed = next((name for name, lengths in accepted.items() if len(lengths) < 2), None)
        if not any_case:
            raise ConversionError(f"--input: the eager network takes no such input: {refusal}")
        for name, known in self._ranges.items():
            missing = [length for length in known if length not in accepted[name]]
            if missing:
                raise ConversionError(
                    f"--lengths: the eager network takes no {missing[0]} for '{name}': {refusal} Give the range that "
                    "it takes."
                )
        if fixed is not None and fixed not in self._ranges:
            (only,) = accepted[fixed]
            raise ConversionError(
                f"--input: it accepts fewer than two lengths of '{fixed}': {refusal} Write the only length, {only}, "
                "instead of the name."
            )

    def _refusal(self, tensors: Mapping[str, torch.Tensor]) -> str:
        """Return why the eager network refuses an input; empty where it takes it."""
        try:
            self._probe(tensors)
        except ConversionError as error:
            return str(error)
        return ""

    def _refusal_of_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> str:
        return self._refusal({name: torch.from_numpy(array[np.newaxis]) for name, array in arrays.items()})

    def _random_case(
        self,
        drawing: Drawing,
        row: int,
        kind: str,
        lengths: Mapping[str, int],
        seed: int,
        generator: np.random.Generator,
    ) -> Case:
        arrays = drawing.draw(generator, lengths, kind, row)
        sizes = ", ".join(f"{name} {length}" for name, length in lengths.items())
        name = f"{kind} {row}" + (f", {sizes}" if sizes else "")
        return Case(name=name, data=self._encode(arrays), group=f"random, seed {seed}")

    def _user_cases(self, samples: Path) -> tuple[Case, ...]:
        if not samples.exists():
            raise ParityError(f"'{samples}': no such file or folder. Check the path given to --samples.")
        paths = sorted(path for path in samples.rglob("*") if path.is_file()) if samples.is_dir() else [samples]
        cases = []
        for path in paths[:_MAX_SAMPLES]:
            try:
                content = read_arrays(path, f"'{path}'")
            except InputError as error:
                raise ParityError(f"'{samples}': cannot be used as a sample: {error}") from error
            by_name = content if isinstance(content, Mapping) else {self._specs[0].name: content}
            missing = [spec.name for spec in self._specs if spec.name not in by_name]
            if missing:
                raise ParityError(f"'{path}': has no array '{missing[0]}': expected all inputs by name. Add the array.")
            arrays = {spec.name: np.asarray(by_name[spec.name], dtype=spec.dtype) for spec in self._specs}
            # A file may hold one input, or a batch of them.
            batches = [len(array) for name, array in arrays.items() if array.ndim == len(self._spec(name).shape)]
            for row in range(min(batches)) if batches else [None]:
                single = {name: array if row is None else array[row] for name, array in arrays.items()}
                name = path.name if row is None else f"{path.name} {row}"
                cases.append(Case(name=name, data=self._encode(single), group=SAMPLES))
        if not cases:
            raise ParityError(f"'{samples}': no arrays: expected .npy, .npz or .json files. Check --samples.")
        if len(cases) > _MAX_SAMPLES or len(paths) > _MAX_SAMPLES:
            self.skipped_samples = (f"in '{samples}', all but the first {_MAX_SAMPLES} inputs",)
        return tuple(cases[:_MAX_SAMPLES])

    def _spec(self, name: str) -> TensorInput:
        return next(spec for spec in self._specs if spec.name == name)


def _gaps(accepted: Mapping[str, set[int]], refused: Mapping[str, set[int]]) -> Iterator[str]:
    """Yield a sentence on each dimension with lengths that the eager network refuses between some that it takes."""
    for name, lengths in accepted.items():
        between = sorted(length for length in refused[name] - lengths if min(lengths) < length < max(lengths))
        if between:
            numbers = listed([str(length) for length in between], 3)
            yield (
                f"lengths of '{name}' that the eager network refuses, {numbers}: the artifact does not refuse them, "
                "as it promises all lengths between the shortest and the longest"
            )

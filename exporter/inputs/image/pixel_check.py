"""Prepared pixels of an artifact's own files against the user's own transform, on made images."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import msgspec
import numpy as np
from PIL import Image

from exporter.conversion.network_io import Arrays
from exporter.inputs.image.made_images import ENCODED, Drawing, MadeImage, PixelSource, choose_drawings
from exporter.inputs.image.pixel_format import RGB, PixelFormat
from exporter.inputs.image.transform import Prefix, TrainingTransform
from exporter.parity.cases import Case, PreparedInput, ReferenceOutput, ServedStage
from exporter.parity.proof_cache import Proof, ProofCache, describe_machine
from exporter.progress import Advance
from runtime.evidence import Fault, Row, Stage
from runtime.geometry.arrays import Pixels
from runtime.inputs.image.decoder import PIXELS
from runtime.manifest import Preprocessing

# From the steps and the pixel format to one form's own execution of the geometry, for a decoded image.
GeometryFunction: TypeAlias = Callable[[PixelSource], Pixels]
GeometryExecution: TypeAlias = Callable[[Preprocessing, PixelFormat], GeometryFunction]

# The group of the rows of evidence.
MADE = "made pixels"


@dataclass(frozen=True, kw_only=True)
class PixelTest:
    """What is compared with the transform up to one of its steps: ``run`` takes an image and the pixels expected."""

    path: str
    prefix: Prefix
    run: Callable[[MadeImage, Pixels], Pixels]


@dataclass(frozen=True, kw_only=True)
class PixelRow:
    """One path up to one step of the transform: the largest difference in gray levels, and the share that differs.

    ``worst`` is the image that shows it, None where there is none; ``fault`` and ``sentence`` say what is wrong with
    the form of the pixels, or that there are none. ``images`` were compared, of ``planned`` ones.
    """

    step: str
    path: str
    planned: int
    images: int
    difference: int
    share: float
    worst: Drawing | None
    fault: Fault | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class PixelCheck:
    """The transform to compare with, its images' format, and this exporter's own executions of its steps, by path."""

    reading: TrainingTransform
    pixels: PixelFormat
    executions: Mapping[str, GeometryExecution]

    def rows(
        self,
        stages: Mapping[str, ServedStage],
        image: str,
        *,
        thorough: bool = False,
        advance: Advance | None = None,
        cache: ProofCache | None = None,
    ) -> list[Row]:
        """Return the evidence on the geometry of an artifact's files, one row per path, on made images.

        ``stages`` are the files' geometry by path, ``image`` the name of the decoded image in them. A difference is
        traced to a step with the executions. ``thorough`` takes many more images, and compares the executions after
        each step, in rows that say so. What ``cache`` has a proof of is not run again, in rows that say so as well; a
        thorough check runs everything.
        """
        whole = self.reading.prefixes[-1]
        drawings = choose_drawings(self.reading.steps, thorough=thorough)
        tests = [PixelTest(path=path, prefix=whole, run=_through(stage, image)) for path, stage in stages.items()]
        if thorough:
            rewritten = self.step_tests(self.reading.prefixes[:-1])
            rows = compare_pixels([*tests, *rewritten], self.pixels, drawings, advance=advance)
            return [
                *(self._made_row(row) for row in rows[: len(tests)]),
                *(
                    _row(row, path=f"{row.path}, written anew", group=f"{MADE}, after {row.step}")
                    for row in rows[len(tests) :]
                ),
            ]
        # What the user's own callable does, its steps do not tell.
        if cache is None or self.reading.called_with:
            return [self._made_row(row) for row in compare_pixels(tests, self.pixels, drawings, advance=advance)]
        proven = ProvenPixels(cache=cache, steps=self.reading.steps, pixels=self.pixels, drawings=drawings)
        found = proven.compare(tests, {path: stage.id.computation for path, stage in stages.items()}, advance)
        return [self._made_row(one) if isinstance(one, PixelRow) else one for one in found]

    def _made_row(self, row: PixelRow) -> Row:
        group = f"{MADE} of '{self.reading.origin}'" if self.reading.called_with else MADE
        return _row(row, path=row.path, group=group, cause=self._cause(row))

    def step_tests(self, prefixes: Sequence[Prefix]) -> list[PixelTest]:
        """Return the tests of the executions after each of ``prefixes``."""
        return [
            PixelTest(path=path, prefix=prefix, run=_apart(execution(self._steps_of(prefix), self.pixels)))
            for prefix in prefixes
            for path, execution in self.executions.items()
        ]

    def _steps_of(self, prefix: Prefix) -> Preprocessing:
        steps = self.reading.steps
        return msgspec.structs.replace(steps, geometry=steps.geometry[: prefix.steps])

    def _cause(self, row: PixelRow) -> str:
        """Return from which step on an execution differs on the worst image, or that it does not."""
        execution = self.executions.get(row.path)
        if row.worst is None or execution is None:
            return ""
        traced = replace(self, executions={row.path: execution})
        for prefix in self.reading.prefixes:
            steps = compare_pixels(traced.step_tests([prefix]), self.pixels, [row.worst])
            if any(step.fault is not None for step in steps):
                return f"; the same steps apart from the artifact differ from step {prefix.name} on"
        return "; the same steps apart from the artifact are equal: its file was changed, or is of another version"


@dataclass(frozen=True, kw_only=True)
class ProvenPixels:
    """The comparison of the geometry on ``drawings``, where what the cache has a proof of is not run again.

    The user's own transform always is: a proof holds for the pixels that it gave then, to the last bit, and for the
    very computation that a path has in the artifact.
    """

    cache: ProofCache
    steps: Preprocessing
    pixels: PixelFormat
    drawings: Sequence[Drawing]

    def compare(
        self, tests: Sequence[PixelTest], computations: Mapping[str, str], advance: Advance | None
    ) -> list[PixelRow | Row]:
        """Return a row per test, in order: one of evidence where it is from the cache.

        ``computations`` are digests of what the paths compute, or their names where that is code of this version.
        """
        about = self._about()
        keys = {test.path: {**about, "path": test.path, "computation": computations[test.path]} for test in tests}
        proofs = {path: proof for path, key in keys.items() if (proof := self.cache.find(key)) is not None}
        digest = hashlib.sha256()
        pending = [
            replace(
                test,
                prefix=replace(test.prefix, pixels=_digesting(test.prefix.pixels, digest)),
                run=_as_expected if test.path in proofs else test.run,
            )
            for test in tests
        ]
        rows = compare_pixels(pending, self.pixels, self.drawings, advance=advance)
        expected = digest.hexdigest()
        stale = [test for test in tests if test.path in proofs and proofs[test.path].expected != expected]
        again = {row.path: row for row in compare_pixels(stale, self.pixels, self.drawings, advance=advance)}
        found: list[PixelRow | Row] = []
        for row in rows:
            if row.path in proofs and row.path not in again:
                found.append(_proven_row(row, proofs[row.path]))
                continue
            now = again.get(row.path, row)
            if now.fault is None and now.images == now.planned:
                self.cache.keep(keys[row.path], expected=expected, inputs=now.images)
            found.append(now)
        return found

    def _about(self) -> dict[str, str]:
        """Return what every path's outcome depends on."""
        steps = msgspec.json.encode(self.steps.geometry, order="deterministic").decode()
        names = "\n".join(drawing.name for drawing in self.drawings)
        return {
            **describe_machine(),
            "steps": steps,
            "pixels": str(self.pixels),
            "images": hashlib.sha256(names.encode()).hexdigest(),
        }


def _as_expected(_made: MadeImage, expected: Pixels) -> Pixels:
    return expected


def _digesting(transform: Callable[[PixelSource], Pixels], digest: "hashlib._Hash") -> Callable[[PixelSource], Pixels]:
    """Return the transform, whose pixels are added to a digest with their form."""

    def run(image: PixelSource) -> Pixels:
        expected = transform(image)
        digest.update(f"{expected.dtype} {expected.shape}".encode())
        digest.update(np.ascontiguousarray(expected).tobytes())
        return expected

    return run


def _proven_row(row: PixelRow, proof: Proof) -> Row:
    """Return the row of a path that was not run: its inputs are those of the proof."""
    group = f"{MADE}, from the cache of {proof.date}"
    finding = f"{row.path}: its geometry on made images was not run now: {proof.describe()}"
    return msgspec.structs.replace(_row(row, path=row.path, group=group), finding=finding)


def decode_rows(stages: Mapping[str, ServedStage], decode: Callable[[Case], Arrays], image: str) -> list[Row]:
    """Return the evidence on decoding a JPEG of several megapixels, one row per path that decodes.

    ``decode`` gives what the user's loader decodes, ``image`` is the name of that array. The cases of a check are small
    photos, and decoders take shortcuts for large ones.
    """
    if not stages:
        return []
    drawing = Drawing(size=ENCODED, pattern="waves")
    stream = io.BytesIO()
    Image.fromarray(drawing.draw(RGB).array).save(stream, "JPEG", quality=90)
    case = Case(name=f"{drawing.name}, JPEG", data=stream.getvalue())
    decoded = decode(case)
    reference = ReferenceOutput(
        case=case, prepared=PreparedInput(decoded=decoded, arrays={}, tensors={}), inner={}, outputs={}
    )
    rows = []
    for path, stage in stages.items():
        tally = _Tally()
        tally.add(drawing, partial(_decoded, stage, reference, image), decoded[image])
        found = tally.row(path=path, step="decoding", planned=1)
        rows.append(_row(found, stage="decode", path=path, group=MADE))
    return rows


def compare_pixels(
    tests: Sequence[PixelTest], pixels: PixelFormat, drawings: Sequence[Drawing], *, advance: Advance | None = None
) -> list[PixelRow]:
    """Return one row per test: each image is drawn, and prepared by the user's transform, once for all of them."""
    tallies = [_Tally() for _ in tests]
    for done, drawing in enumerate(drawings):
        if advance is not None:
            advance(done, len(drawings))
        made = drawing.draw(pixels)
        expected: dict[str, Pixels] = {}
        for test, tally in zip(tests, tallies, strict=True):
            if test.prefix.name not in expected:
                expected[test.prefix.name] = test.prefix.pixels(made.source())
            pixels_expected = expected[test.prefix.name]
            tally.add(drawing, partial(test.run, made, pixels_expected), pixels_expected)
    return [
        tally.row(path=test.path, step=test.prefix.name, planned=len(drawings))
        for test, tally in zip(tests, tallies, strict=True)
    ]


class _Tally:
    """The differences of one test, image by image."""

    def __init__(self) -> None:
        self.images = self.difference = 0
        self.share = 0.0
        self.worst: Drawing | None = None
        self.fault: Fault | None = None
        self.sentence = ""

    def add(self, drawing: Drawing, run: Callable[[], Pixels], expected: Pixels) -> None:
        """Add one image; pixels that cannot be computed are a fault, and no image."""
        try:
            actual = run()
        except Exception as error:  # whatever a runtime raises for an image that the transform takes
            self._fail(drawing, "error", f"{type(error).__name__}: {' '.join(str(error).split())}")
            return
        self.images += 1
        if actual.shape != expected.shape:
            self._fail(drawing, "shape", f"expected {list(expected.shape)}, got {list(actual.shape)}")
        elif actual.dtype != expected.dtype:
            self._fail(drawing, "dtype", f"expected {expected.dtype}, got {actual.dtype}")
        elif not np.array_equal(actual, expected):
            # Of unsigned numbers, without a wider copy of a large image.
            difference = np.where(actual > expected, actual - expected, expected - actual)
            self.share = max(self.share, float((difference > 0).mean()))
            if int(difference.max()) > self.difference:
                self.difference = int(difference.max())
                if self.fault in (None, "value"):
                    self.fault, self.worst = "value", drawing

    def row(self, *, path: str, step: str, planned: int) -> PixelRow:
        """Return the row."""
        return PixelRow(
            step=step,
            path=path,
            planned=planned,
            images=self.images,
            difference=self.difference,
            share=self.share,
            worst=self.worst,
            fault=self.fault,
            sentence=self.sentence or f"expected eager's, got {self.difference} gray levels off",
        )

    def _fail(self, drawing: Drawing, fault: Fault, sentence: str) -> None:
        """Keep the first fault of form, which is worse than any value."""
        if self.fault in (None, "value"):
            self.fault, self.sentence, self.worst = fault, sentence, drawing


def _decoded(stage: ServedStage, reference: ReferenceOutput, image: str) -> Pixels:
    decoded: Pixels = stage.run(reference)[image]
    return decoded


def _through(stage: ServedStage, image: str) -> Callable[[MadeImage, Pixels], Pixels]:
    """Return an artifact's geometry as a function of made images."""

    def run(made: MadeImage, expected: Pixels) -> Pixels:
        reference = ReferenceOutput(
            case=Case(name=made.name, data=b""),
            prepared=PreparedInput(
                decoded={image: made.array[np.newaxis]}, arrays={PIXELS: expected[np.newaxis]}, tensors={}
            ),
            inner={},
            outputs={},
        )
        prepared: Pixels = stage.run(reference)[PIXELS][0]
        return prepared

    return run


def _apart(prepare: GeometryFunction) -> Callable[[MadeImage, Pixels], Pixels]:
    return lambda made, _expected: prepare(made.source())


def _row(row: PixelRow, *, path: str, group: str, cause: str = "", stage: Stage = "geometry") -> Row:
    return Row(
        path=path,
        device="cpu",
        stage=stage,
        group=group,
        planned=row.planned,
        inputs=row.images,
        fault=row.fault,
        finding=f"pixels after {row.step}: {row.sentence}{cause}" if row.fault is not None else "",
        worst_input=row.worst.name if row.worst is not None else "",
        unit="gray levels",
        difference=float(row.difference) if row.images else None,
        difference_p99=None,
        share=row.share,
        floor=0.0,
        limit=0.0,
    )

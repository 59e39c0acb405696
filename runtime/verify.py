"""Verification of an artifact on a device, with its golden inputs."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from numpy.typing import NDArray

from runtime.artifact.difference import largest_difference
from runtime.artifact.golden import GoldenCase, read_golden, read_golden_outputs
from runtime.artifact.limits import run_within_limit
from runtime.artifact.networks import deferral_rule
from runtime.artifact.open import Artifact, artifact_errors, open_artifact
from runtime.artifact.proof import check_measured_limits, check_proof
from runtime.engine.concurrency import run_by_bucket
from runtime.engine.session import Arrays
from runtime.errors import ArtifactError
from runtime.evidence import Stage
from runtime.inputs.decoder import PreparedInput
from runtime.inputs.registry import kind_of, open_payload
from runtime.manifest import DEFERRING, FULL_PRECISION, Golden, Manifest, VariantGolden
from runtime.model import Model
from runtime.outputs.precision import precision_of
from runtime.outputs.registry import open_interpreter
from runtime.results import InputScores

# How files begin whose decoding may be rounded: JPEG, WebP.
_LOSSY = (b"\xff\xd8", b"RIFF")

OutputLimits: TypeAlias = Golden | VariantGolden
_Outputs: TypeAlias = Mapping[str, NDArray[Any]]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison with the golden set: the largest difference found, and the limit that the exporter proved.

    ``name`` says what was compared: ``prepared`` what the host prepares, ``network`` the network on golden prepared
    inputs, ``end to end`` each input alone, ``in a batch`` inputs together, the file name of the graph that takes raw
    inputs, ``labels`` the results made from the eager model's outputs, or ``deferral`` the precision of each row.
    ``stage`` is the stage of the parity check that it belongs to. ``output`` is the name of one of several outputs,
    else empty. ``lossy`` says that the inputs are of formats whose decoders may round in different ways, such as JPEG.
    """

    name: str
    stage: Stage
    output: str = ""
    lossy: bool = False
    passed: bool
    worst: float
    limit: float
    unit: str

    @property
    def title(self) -> str:
        """The check's name for people, unique in its verification: ``end to end, lossy formats, logits``."""
        return ", ".join(part for part in (self.name, "lossy formats" if self.lossy else "", self.output) if part)


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one precision of an artifact on one device."""

    artifact: str
    precision: str = FULL_PRECISION
    device: str
    files: int
    inputs: int
    checks: tuple[Check, ...]

    @property
    def compared_with(self) -> str:
        """Whose outputs the checks compare with: the eager model's, or those of a variant as it was measured."""
        if self.precision == FULL_PRECISION:
            return "the eager model's outputs"
        return f"the {self.precision} outputs that were measured"

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def verify(path: str | Path, *, device: str = "auto", precision: str = FULL_PRECISION) -> Verification:
    """Compare the artifact in folder ``path``, as it runs on ``device``, with the eager model's golden outputs.

    The SHA-256 of every file is compared first; then the golden inputs are prepared and run, and compared with the
    user's own preprocessing and the eager model's outputs. A ``precision`` that is not equal to the model is compared
    with its own outputs, as they were measured. Raises ArtifactError for a damaged file, and a precision that the
    artifact lacks, DeviceError for a device that cannot run.
    """
    artifact = open_artifact(path)
    with artifact_errors(path):
        for name in artifact.manifest.files:
            artifact.file(name)
    return verify_model(artifact, Model(artifact, device=device, precision=precision), whole_path=True)


def verify_model(artifact: Artifact, model: Model, *, whole_path: bool) -> Verification:
    """Compare a loaded ``model`` with the golden outputs; the graph that takes raw inputs only if ``whole_path``.

    Raises ArtifactError where limits, golden inputs or files are not those of the artifact's evidence.
    """
    manifest = artifact.manifest
    with artifact_errors(artifact.path):
        golden = read_golden(artifact.file(manifest.golden.file)).cases
        check_proof(artifact, golden)
        return Verification(
            artifact=str(artifact.path),
            precision=model.precision,
            device=model.device,
            files=len(manifest.files),
            inputs=len(golden),
            checks=tuple(_GoldenChecks(artifact, model, golden).run(whole_path=whole_path)),
        )


def check_answers(artifact: Artifact, model: Model) -> None:
    """Raise ArtifactError unless a loaded ``model`` reproduces the golden outputs."""
    verification = verify_model(artifact, model, whole_path=False)
    if not verification.passed:
        failed = next(check for check in verification.checks if not check.passed)
        raise ArtifactError(
            f"'{artifact.path}': this device does not reproduce {verification.compared_with}: '{failed.title}' differs "
            f"by {failed.worst:.2g} {failed.unit}, and the limit is {failed.limit:g}. Run 'truecopy verify' on it, and "
            "do not serve it here."
        )


def run_golden(artifact: Artifact, model: Model, arrays: Arrays) -> Mapping[str, NDArray[Any]]:
    """Return the outputs for golden inputs; raises ArtifactError where they take so long that they may never come."""
    return run_within_limit(artifact, lambda: model.run(arrays))


class GoldenComparison:
    """Golden cases beside what is given for them now: by the runtime, or by the eager model again.

    ``limits`` are those of outputs; ``expected`` has for each case the outputs that are right, where these are not the
    eager model's alone.
    """

    def __init__(
        self,
        manifest: Manifest,
        golden: Sequence[GoldenCase],
        limits: OutputLimits,
        expected: Sequence[Sequence[_Outputs]] | None = None,
    ) -> None:
        self._golden = golden
        self._limits = limits
        self._expected = [[case.outputs] for case in golden] if expected is None else expected
        self._kind = kind_of(manifest.inputs)
        self._trim = open_interpreter(manifest.task).trim
        self._prepared_limit = manifest.golden.prepared_limit
        payload = open_payload(manifest.inputs)
        self._lossy = [any(data.startswith(_LOSSY) for data in payload.encoded_files(case.source)) for case in golden]

    def prepared(self, inputs: Sequence[Arrays]) -> Iterator[Check]:
        """Yield the checks of prepared inputs, one per case.

        Only lossy formats have a limit, as their decoders may round: pixels of all others are equal on every machine.
        """
        for lossy, limit in ((False, 0.0), (True, self._prepared_limit)):
            differences = [
                largest_difference(arrays[name], case.prepared[name])
                if name in arrays and name in case.prepared
                else math.inf
                for arrays, case, of_lossy in zip(inputs, self._golden, self._lossy, strict=True)
                for name, array in {**case.prepared, **arrays}.items()
                # Beside a photo, an input may have numbers, which no decoder rounds.
                if (of_lossy and array.dtype.kind == "u") == lossy
            ]
            if differences:
                worst = max(differences)
                yield Check(
                    name="prepared",
                    stage=self._kind.prepared_stage,
                    lossy=lossy,
                    passed=worst <= limit,
                    worst=worst,
                    limit=limit,
                    unit=self._kind.prepared_unit,
                )

    def network(self, outputs: Sequence[_Outputs]) -> Iterator[Check]:
        """Yield the checks of outputs for golden prepared inputs, one per output."""
        limits = self._limits.output_limits
        for output, worst in self._worst_by_output(outputs, range(len(self._golden)), limits).items():
            yield _check_of_output("network", output, worst, limits, stage="network", lossy=False)

    def end_to_end(self, name: str, outputs: Sequence[_Outputs]) -> Iterator[Check]:
        """Yield the checks of outputs for raw inputs; lossy formats have limits for what their decoders may round."""
        for lossy, limits in ((False, self._limits.output_limits), (True, self._limits.end_to_end_limits)):
            rows = [row for row, of_lossy in enumerate(self._lossy) if of_lossy == lossy]
            if rows:
                for output, worst in self._worst_by_output(outputs, rows, limits).items():
                    yield _check_of_output(name, output, worst, limits, stage="end to end", lossy=lossy)

    def labels(self, results: Sequence[Arrays]) -> Iterator[Check]:
        """Yield the check of the results of the golden outputs; none where they have no meaning.

        They depend on no device, and so have to be equal.
        """
        if any(results):
            wrong = sum(not _equals(result, case.labels) for result, case in zip(results, self._golden, strict=True))
            yield Check(name="labels", stage="labels", passed=not wrong, worst=wrong, limit=0.0, unit="inputs")

    def _worst_by_output(
        self, outputs: Sequence[_Outputs], rows: Sequence[int], names: Iterable[str]
    ) -> dict[str, float]:
        """Return the largest difference of some cases from the outputs that are right, by output."""
        trimmed = {row: self._trim(outputs[row]) for row in rows}
        return {
            name: max(
                min(largest_difference(trimmed[row][name], expected[name]) for expected in self._expected[row])
                for row in rows
            )
            for name in names
        }


class _GoldenChecks:
    """The checks of one model with its golden cases."""

    def __init__(self, artifact: Artifact, model: Model, golden: Sequence[GoldenCase]) -> None:
        self._artifact = artifact
        self._model = model
        self._golden = golden
        # For each golden input the outputs that are right, of which a row too near a limit has those of two precisions.
        self._expected: Sequence[Sequence[_Outputs]] = [[case.outputs] for case in golden]
        approximation = model.variant.approximation
        self._defers = False
        limits: OutputLimits = model.manifest.golden if approximation is None else approximation.golden
        if approximation is not None:
            outputs = read_golden_outputs(artifact.file(approximation.golden.file), count=len(golden))
            check_measured_limits(artifact, approximation, eager=[case.outputs for case in golden], own=outputs)
            self._expected = [[own] for own in outputs]
            if approximation.deferral is not None and model.precision.endswith(DEFERRING):
                rule = deferral_rule(model.manifest, approximation.deferral)
                room = 2 * approximation.golden.end_to_end_limits[rule.output]
                self._expected = [
                    [*compress((own, case.outputs), rule.choices(own, room))]
                    for own, case in zip(outputs, golden, strict=True)
                ]
                self._defers = True
        self._comparison = GoldenComparison(model.manifest, golden, limits, self._expected)
        with warnings.catch_warnings():
            # The golden set has photos with an EXIF rotation on purpose: elsewhere that is worth a warning.
            warnings.simplefilter("ignore")
            self._decoded = [
                model.decode(case.source, subject=f"golden input {row}") for row, case in enumerate(golden)
            ]

    def run(self, *, whole_path: bool) -> Iterator[Check]:
        """Yield every check that applies to the model."""
        model, golden, comparison = self._model, self._golden, self._comparison
        prepared = [model.prepare(decoded) for decoded in self._decoded]
        stacked = [model.stack([prepared_input]) for prepared_input in prepared]
        yield from comparison.prepared(stacked)
        of_golden = [self._run(case.prepared) for case in golden]
        yield from comparison.network(of_golden)
        alone = [
            outputs if _equals(arrays, case.prepared) else self._run(arrays)
            for arrays, case, outputs in zip(stacked, golden, of_golden, strict=True)
        ]
        yield from comparison.end_to_end("end to end", alone)
        if len(golden) > 1 and model.variant.shares_batches:
            yield from comparison.end_to_end("in a batch", self._run_in_batches(prepared))
        yield from comparison.labels(self._results(prepared))
        if self._defers:
            yield self._check_deferral(model.score(prepared))
        variant = model.variant
        if whole_path and model.device == "cpu" and variant.model != variant.network:
            outputs = [self._run(model.raw_arrays(decoded)) for decoded in self._decoded]
            yield from comparison.end_to_end(variant.model, outputs)

    def _run(self, arrays: Arrays) -> _Outputs:
        return run_golden(self._artifact, self._model, arrays)

    def _run_in_batches(self, prepared: Sequence[PreparedInput]) -> list[_Outputs]:
        """Return the outputs of inputs that share batches where they may, as those of batches of one.

        Alone, no input is padded, and none has neighbors that its outputs could depend on.
        """
        model = self._model
        batched = model.manifest.batched_outputs
        # No larger batch than the runtime makes, and none where it makes none.
        most = model.manifest.largest_batch

        def run(bucket: Sequence[PreparedInput]) -> list[_Outputs]:
            # An input that is alone in its bucket is its own neighbor.
            batch = model.stack(bucket if len(bucket) > 1 or most == 1 else [*bucket, *bucket])
            outputs = self._run(batch)
            return [
                {name: array[row : row + 1] if name in batched else array for name, array in outputs.items()}
                for row in range(len(bucket))
            ]

        return list(run_by_bucket(prepared, model.bucket, run, most=most))

    def _check_deferral(self, scores: Sequence[InputScores]) -> Check:
        """Return the check that each golden input runs in the precision that its margin asks for."""
        wrong = sum(
            len(expected) == 1 and (precision_of(entry) == FULL_PRECISION) != (expected[0] is case.outputs)
            for entry, expected, case in zip(scores, self._expected, self._golden, strict=True)
        )
        return Check(name="deferral", stage="labels", passed=not wrong, worst=wrong, limit=0.0, unit="inputs")

    def _results(self, prepared: Sequence[PreparedInput]) -> list[Arrays]:
        """Return the results that the runtime makes of the eager model's outputs."""
        model = self._model
        results: list[Arrays] = []
        for case, prepared_input in zip(self._golden, prepared, strict=True):
            (scores,) = model.split(case.outputs, [prepared_input])
            results.append(model.interpret(scores, name="").to_arrays())
        return results


def _equals(arrays: Arrays, others: Arrays) -> bool:
    return arrays.keys() == others.keys() and all(
        largest_difference(array, others[name]) == 0.0 for name, array in arrays.items()
    )


def _check_of_output(
    name: str, output: str, worst: float, limits: Mapping[str, float], *, stage: Stage, lossy: bool
) -> Check:
    """Return the check of one output; it is named where there are several."""
    return Check(
        name=name,
        stage=stage,
        output=output if len(limits) > 1 else "",
        lossy=lossy,
        passed=worst <= limits[output],
        worst=worst,
        limit=limits[output],
        unit="score",
    )

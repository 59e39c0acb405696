"""Consistency of a manifest: its parts fit one another, and nothing that is compared is left out."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import ArtifactError
from runtime.manifest import FULL_PRECISION, LAYOUT, Approximation, Golden, Manifest, VariantGolden

# Evidence takes some 20 kB, and the names of a million classes, or words of a vocabulary, less than this: both become
# objects that take twenty times as much.
_LIMIT_BYTES = 16 * 2**20


def check_manifest(manifest: Manifest, *, subject: str) -> None:
    """Raise ArtifactError, with ``subject`` as the file's name, where the parts of a manifest do not fit one another.

    Each part by itself has been checked by its type.
    """
    if manifest.parity is None:
        raise ArtifactError(f"{subject}: never proven equal to its model. Export the model again.")
    for problem in _problems(manifest):
        raise ArtifactError(f"{subject}: {problem}. Do not use this artifact; export the model again.")


def _problems(manifest: Manifest) -> Iterator[str]:
    precisions = [variant.precision for variant in manifest.variants]
    measured = [variant.precision for variant in manifest.variants if variant.approximation is not None]
    if precisions[:1] != [FULL_PRECISION] or len(set(precisions)) < len(precisions) or precisions[1:] != measured:
        yield (
            f"its variants do not fit: expected {FULL_PRECISION} first, and each other precision once, with what was "
            f"measured of it, got {', '.join(precisions) or 'none'}"
        )
    yield from _file_problems(manifest)
    yield from _variant_problems(manifest)
    for kind, names in (
        ("input", [spec.name for spec in manifest.inputs]),
        ("output", [output.name for output in manifest.outputs]),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            yield f"has two {kind}s of one name, '{twice[0][:80]}'"
    yield from _limit_problems(manifest)
    for name, compared in manifest.compared.items():
        if compared.lowest > compared.highest:
            yield f"compares '{name[:80]}' from {compared.lowest} to {compared.highest}: expected the lowest first"


def _limit_problems(manifest: Manifest) -> Iterator[str]:
    """Yield limits, of fp32 and of each variant, that are not those of the outputs."""
    outputs = {output.name for output in manifest.outputs}
    sets: list[Golden | VariantGolden] = [manifest.golden]
    sets += [variant.approximation.golden for variant in manifest.variants if variant.approximation is not None]
    for golden in sets:
        for limits in ("output_limits", "end_to_end_limits"):
            different = sorted(outputs ^ getattr(golden, limits).keys())
            if different:
                yield (
                    f"golden.{limits} of '{golden.file[:80]}': expected one limit for each output, and "
                    f"'{different[0][:80]}' is only one of both"
                )


def _file_problems(manifest: Manifest) -> Iterator[str]:
    for name in manifest.files:
        if Path(name).name != name or name in {"", ".", ".."} or "\\" in name or "\0" in name:
            yield f"file name leaves the artifact: expected a plain name, got '{name[:80]}'"
    for name in needed_files(manifest):
        if name not in manifest.files:
            yield f"lists no hash of a file that is needed: expected '{name[:80]}' among its files"
    for name in (LAYOUT.parity, *((manifest.labels.file,) if manifest.labels is not None else ())):
        size_bytes = manifest.files[name].size_bytes if name in manifest.files else 0
        if size_bytes > _LIMIT_BYTES:
            yield f"'{name[:80]}' is too large: expected at most {_LIMIT_BYTES} bytes, got {size_bytes}"


def _variant_problems(manifest: Manifest) -> Iterator[str]:
    """Yield variants of other fp32 graphs or weights, and those measured on the inputs that calibrated them."""
    for variant in manifest.variants:
        measured = variant.approximation
        if measured is None:
            continue
        yield from _count_problems(variant.precision, measured)
        expected, got = measured.measured_against_sha256, manifest.full_precision_sha256
        if expected not in {None, got}:
            yield (
                f"its {variant.precision} variant belongs to other {FULL_PRECISION} graphs: expected those with the "
                f"SHA-256 {expected}, got {got}"
            )
        shared = manifest.variants[0].weights
        if variant.shared_weights not in {None, shared}:
            yield (
                f"its {variant.precision} variant shares weights that are not {FULL_PRECISION}'s: expected "
                f"'{shared}', got '{variant.shared_weights[:80]}'"
            )
        if measured.data is not None and measured.data.calibrated_sha256 == measured.data.measured_sha256:
            yield (
                f"its {variant.precision} variant was measured on the inputs that it was calibrated with, which says "
                "nothing of others"
            )


def _count_problems(precision: str, measured: Approximation) -> Iterator[str]:
    """Yield counts that exceed what was counted, and a limit below which fewer rows run again than was measured."""
    agreement, deferral = measured.agreement, measured.deferral
    counts = [("agreement.equal", agreement.equal, agreement.inputs)]
    if deferral is not None:
        counts += [
            ("deferral.deferred", deferral.deferred, deferral.inputs),
            ("deferral.flips", deferral.flips, deferral.inputs),
        ]
        least = deferral.safety_factor * deferral.largest_margin
        if deferral.limit < least:
            yield f"its {precision} variant defers too little: expected a limit of {least:g}, got {deferral.limit:g}"
    for name, count, inputs in counts:
        if count > inputs:
            yield f"its {precision} variant has an impossible {name}: expected at most {inputs}, got {count}"


def needed_files(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the files that an artifact with this manifest cannot do without."""
    labels, calibration = manifest.labels, manifest.calibration
    names = [
        LAYOUT.parity,
        manifest.golden.file,
        *(name for variant in manifest.variants for name in variant.files),
        *(name for spec in manifest.inputs for name in spec.files),
        *((labels.file,) if labels is not None else ()),
        *((calibration.file,) if calibration is not None else ()),
    ]
    return tuple(dict.fromkeys(names))

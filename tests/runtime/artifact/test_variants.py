"""Variants in a manifest: fp32 comes first, and what is not equal to the model says what was measured of it."""

import pytest

from runtime.artifact.open import open_artifact
from runtime.errors import ArtifactError
from runtime.verify import verify


@pytest.mark.parametrize(
    "change",
    [
        lambda variants: variants.append({**variants[0]}),
        lambda variants: variants.append({**variants[0], "precision": "int8"}),
        lambda variants: variants[0].update(precision="int8"),
    ],
    ids=["twice", "without evidence", "int8 alone"],
)
def test_variants_that_do_not_fit_are_refused(copy, edit_manifest, change):
    edit_manifest(copy, lambda manifest: change(manifest["variants"]))

    with pytest.raises(ArtifactError, match="its variants do not fit: expected fp32 first"):
        open_artifact(copy)


def test_an_artifact_has_a_variant(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest["variants"].clear())

    with pytest.raises(ArtifactError, match=r"not a truecopy manifest: Expected `array` of length >= 1 .*variants"):
        open_artifact(copy)


def test_an_fp32_variant_is_written_as_before(tiny):
    assert b'"weights": "weights.bin"\n    }\n  ],\n' in (tiny / "truecopy.json").read_bytes()
    assert open_artifact(tiny).manifest.variant("fp32").approximation is None


def add_int8(manifest):
    """Call the fp32 graphs int8 as well, with evidence of a kind that an export writes."""
    agreement = {"inputs": 88, "equal": 88, "low": 0.95, "high": 1.0, "flipped_margin": None}
    agreement |= {"score_difference": 0.004, "mean_score_difference": 0.0007}
    golden = {"file": "golden.npz"}
    golden |= {"output_limits": {"probabilities": 0.0007}, "end_to_end_limits": {"probabilities": 0.04}}
    deferral = {"limit": 0.003, "largest_margin": 0.002, "safety_factor": 1.5, "inputs": 88, "deferred": 0, "flips": 0}
    deferral |= {"risk": 0.04, "speed": 1.15}
    quantization = {"method": "static", "ranges": "min-max", "per_channel": True, "reduce_range": False}
    approximation = {"quantization": quantization, "min_agreement": 0.99, "agreement": agreement}
    approximation |= {"deferral": deferral, "golden": golden}
    manifest["variants"].append({**manifest["variants"][0], "precision": "int8", "approximation": approximation})


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("golden", {"output_limits": {}}),
        ("golden", {"output_limits": {"other": 0.0007}}),
        ("golden", {"output_limits": {"probabilities": 1e308}}),
        ("golden", {"output_limits": {"probabilities": 0.1}}),
        ("golden", {"end_to_end_limits": {}}),
        ("golden", {"end_to_end_limits": {"probabilities": 0.1}}),
        ("agreement", {"equal": 89}),
        ("deferral", {"limit": 0.0}),
        ("deferral", {"deferred": 89}),
        ("deferral", {"flips": 89}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no fast int8")
def test_thinned_evidence_of_a_variant_is_refused(copy, edit_manifest, part, change):
    edit_manifest(copy, add_int8)
    assert verify(copy, device="cpu", precision="int8").passed
    edit_manifest(copy, lambda manifest: manifest["variants"][1]["approximation"][part].update(change))

    with pytest.raises(ArtifactError):
        verify(copy, device="cpu", precision="int8")

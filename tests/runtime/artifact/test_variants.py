"""Variants in a manifest: fp32 comes first, and what is not equal to the model says what was measured of it."""

import pytest

from runtime.artifact.open import open_artifact
from runtime.errors import ArtifactError


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

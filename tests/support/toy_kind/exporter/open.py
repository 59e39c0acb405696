"""Point adapter of an export, from ``--input NAME=point``."""

from dataclasses import replace
from typing import Any

from support.toy_kind.exporter.adapter import PointAdapter, to_bytes
from support.toy_kind.manifest import PointInput

from exporter.architectures.rebuild import RebuiltNetwork
from exporter.inputs.kind import InputKind
from exporter.recipe import Recipe
from runtime.artifact.open import Artifact


def matches(recipe: Recipe, _rebuilt: RebuiltNetwork) -> bool:
    """Return whether the user described a point."""
    return len(recipe.inputs) == 1 and recipe.inputs[0].endswith("=point")


def open_adapter(recipe: Recipe, _rebuilt: RebuiltNetwork) -> PointAdapter:
    """Return the adapter of the described point."""
    return PointAdapter(recipe.inputs[0].removesuffix("=point"))


def complete_recipe(recipe: Recipe, spec: PointInput, _artifact: Artifact) -> Recipe:
    """Return ``recipe`` with the description of an artifact's point."""
    return replace(recipe, inputs=(*recipe.inputs, f"{spec.name}=point"))


def encode(source: Any, _spec: PointInput, _subject: str) -> bytes:
    """Return a point as files have it."""
    return to_bytes(source)


KIND = InputKind(matches=matches, open_adapter=open_adapter, complete_recipe=complete_recipe, to_bytes=encode)

"""The manifest's type for points."""

from runtime.manifest.parts import TaggedPart


class PointInput(TaggedPart, frozen=True, kw_only=True, tag="point", tag_field="kind"):
    """Two numbers, x and y: float32 [batch, 2]."""

    name: str

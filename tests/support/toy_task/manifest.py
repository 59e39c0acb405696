"""Manifest type of the task."""

from runtime.manifest import Manifest, Task
from runtime.manifest.parts import TaggedPart


class Embed(TaggedPart, frozen=True, kw_only=True, tag="embed", tag_field="kind"):
    """A vector of length one: the output is [batch, dimensions]."""

    dimensions: int

    @property
    def labels(self) -> None:
        return None


class EmbedManifest(Manifest, frozen=True, kw_only=True):
    """The manifest as it reads with one more type in ``runtime.manifest.tasks.Task``."""

    task: Task | Embed  # type: ignore[assignment]

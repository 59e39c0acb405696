"""Decisions of scores by the task of a manifest."""

from collections.abc import Sequence

from exporter.conversion.network_io import Arrays
from exporter.outputs.interpreter import Decision
from exporter.outputs.registry import open_reference
from runtime.manifest import Manifest


def decide(actual: Arrays, expected: Arrays, manifest: Manifest, labels: Sequence[str]) -> Decision | None:
    """Return how the decisions of two sets of outputs compare, each a batch of one.

    None for tasks without decisions, and for arrays of another form than the one that decides.
    """
    return open_reference(manifest.task, labels).decide_all(actual, expected, manifest.outputs)


def is_label_map(actual: Arrays, expected: Arrays, manifest: Manifest) -> bool:
    """Return whether ``actual`` holds label maps where ``expected`` holds scores: only decisions can be compared."""
    name = manifest.outputs[0].name
    return name in actual and open_reference(manifest.task, ()).is_label_map(actual[name], expected[name])

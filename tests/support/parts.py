"""Faults of artifacts whose inputs have parts."""

from pathlib import Path

import onnx
from support.hostile_files import rehash

from runtime.manifest import LAYOUT


def swap_inputs(artifact: Path, first: str, second: str) -> None:
    """Exchange two inputs of the graphs, as a fault of the export would; the hashes are those of the new files."""
    names = {first: second, second: first}
    for name in (LAYOUT.model, LAYOUT.network):
        graph = onnx.load(artifact / name, load_external_data=False)
        for node in graph.graph.node:
            node.input[:] = [names.get(value, value) for value in node.input]
        (artifact / name).write_bytes(graph.SerializeToString(deterministic=True))
        rehash(artifact, name)

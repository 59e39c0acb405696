"""Faults of artifacts whose inputs have parts."""

import hashlib
from pathlib import Path

import msgspec
import onnx

from runtime.manifest import LAYOUT, File, manifest_from_json, struct_to_json


def swap_inputs(artifact: Path, first: str, second: str) -> None:
    """Exchange two inputs of the graphs, as a fault of the export would; the hashes are those of the new files."""
    manifest = manifest_from_json((artifact / LAYOUT.manifest).read_bytes(), subject="manifest")
    names = {first: second, second: first}
    files = dict(manifest.files)
    for name in (LAYOUT.model, LAYOUT.network):
        graph = onnx.load(artifact / name, load_external_data=False)
        for node in graph.graph.node:
            node.input[:] = [names.get(value, value) for value in node.input]
        data = graph.SerializeToString(deterministic=True)
        (artifact / name).write_bytes(data)
        files[name] = File(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    changed = msgspec.structs.replace(manifest, files=files)
    (artifact / LAYOUT.manifest).write_bytes(struct_to_json(changed))

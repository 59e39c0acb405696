"""Triton model repositories: the graphs as they are, and this runtime."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.artifact.golden import read_golden
from runtime.artifact.open import Artifact, open_artifact
from runtime.deploy.artifact_copies import artifact_digest
from runtime.deploy.deployment import Deployment
from runtime.deploy.triton.configuration import Configuration, warm_ups
from runtime.deploy.triton.model import (
    ARTIFACT_FOLDER,
    DIGEST_PARAMETER,
    NAME_TENSOR,
    PRECISION_PARAMETER,
    ROW_TENSOR,
)
from runtime.engine.session import open_session
from runtime.errors import InputError
from runtime.inputs.image.decoder import MAX_PIXELS
from runtime.inputs.registry import open_decoder
from runtime.manifest import DEFERRING, FULL_PRECISION, LAYOUT, Variant
from runtime.outputs.registry import open_interpreter
from runtime.server.open_inference.requests import output_specs
from runtime.server.open_inference.tensors import BYTES, TensorSpec, datatype_of, to_bytes
from runtime.server.payloads import encoded_inputs, input_specs
from runtime.server.version import MODEL_VERSION

# Golden inputs of the first few shapes are the warm-up.
_WARM_SHAPES = 3

_MODEL = '''"""An artifact for Triton's Python backend: encoded inputs in, the rows of 'truecopy predict' out."""

from runtime.deploy.triton.model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''

_ONNX_INSTANCES = """\
# One per core: a call of the network takes one thread.
instance_group { kind: KIND_CPU count: 2 }
"""

_PYTHON_INSTANCES = """\
# One process, which works on as many inputs at once as it has cores; another one would load the weights again.
instance_group { kind: KIND_CPU count: 1 }
"""

Files = dict[str, str | bytes | Path]


@dataclass(frozen=True, kw_only=True)
class _ServedGraph:
    """One graph of the artifact, and the ``files`` it is made of; ``golden`` are arrays with a batch of one for it."""

    file: str
    files: Sequence[str]
    about: str
    inputs: Sequence[TensorSpec]
    golden: Sequence[Mapping[str, NDArray[Any]]]


def build_triton(artifact: Path, out: Path, precision: str = FULL_PRECISION) -> Deployment:
    """Return two model repositories for an artifact; every file of it is checked first.

    ``onnxruntime`` has the graphs as they are, ``python`` a model that runs the artifact with this runtime. A pair of
    precisions is no graph, and has the latter alone.
    """
    opened = open_artifact(artifact)
    for file in opened.manifest.files:
        opened.file(file)
    name = to_triton_name(opened.manifest.name)
    files: Files = {}
    graphs = f"\n  tritonserver --model-repository {out}/onnxruntime    # tensors; both may be passed"
    if precision.endswith(DEFERRING):
        graphs = ""
    else:
        for graph in _graphs(opened, opened.manifest.variant(precision)):
            model = f"{name}_{Path(graph.file).stem.replace('.', '_')}"
            files |= {f"onnxruntime/{model}/{file}": content for file, content in _graph_files(opened, model, graph)}
    files |= {f"python/{name}/{file}": content for file, content in _python_files(opened, name, precision)}
    return Deployment(
        files=files,
        next_steps="  pip install 'truecopy[cpu]'    # into the Python of Triton's Python backend\n"
        f"  tritonserver --model-repository {out}/python    # rows, as 'truecopy predict' has them{graphs}",
    )


def to_triton_name(name: str) -> str:
    """Return ``name`` as it may be a folder and a part of a URL: letters, digits, dots, hyphens, underscores."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or "model"


def _graphs(artifact: Artifact, variant: Variant) -> Iterator[_ServedGraph]:
    """Yield the graphs of a variant: one where the host prepares nothing that the graph also could."""
    cases = read_golden(artifact.file(artifact.manifest.golden.file)).cases
    if variant.model != variant.network:
        decoder = open_decoder(artifact, max_pixels=MAX_PIXELS)
        yield _ServedGraph(
            file=variant.model,
            about="the whole path, from decoded inputs to scores",
            files=variant.graph_files(variant.model),
            inputs=_inputs(artifact, variant, variant.model),
            golden=[decoder.raw_arrays(decoder.decode(case.source, subject="golden input")) for case in cases],
        )
    yield _ServedGraph(
        file=variant.network,
        about="from prepared inputs to scores",
        files=variant.graph_files(variant.network),
        inputs=_inputs(artifact, variant, variant.network),
        golden=[case.prepared for case in cases],
    )


def _inputs(artifact: Artifact, variant: Variant, file: str) -> list[TensorSpec]:
    """Return the inputs of a graph as its session lists them."""
    graph = artifact.graph(file, weights=variant.weights, shared=variant.shared_weights)
    types = open_session(graph, device="cpu", threads=1).input_types
    return [
        TensorSpec(
            name=name,
            datatype=datatype_of(np.dtype(dtype)),
            shape=tuple(-1 if length is None else length for length in shape),
        )
        for name, (dtype, shape) in types.items()
    ]


def _graph_files(artifact: Artifact, model: str, graph: _ServedGraph) -> Iterator[tuple[str, str | bytes | Path]]:
    manifest = artifact.manifest
    # An output without a batch is the same for all inputs: Triton could not split it.
    batched = all(output.batched for output in manifest.outputs)
    has_class_scores = open_interpreter(manifest.task).has_class_scores
    labels = manifest.labels.file if manifest.labels is not None and has_class_scores else ""
    warm = warm_ups(graph.golden, batched=batched, shapes=_WARM_SHAPES)
    configuration = Configuration(
        about=f"'{graph.file}' of '{manifest.name}': {graph.about}.",
        name=model,
        backend="onnxruntime",
        file=graph.file,
        batched=batched,
        inputs=graph.inputs,
        outputs=output_specs(manifest),
        labels=labels,
        instances=_ONNX_INSTANCES,
        parameters={"intra_op_thread_count": "1"},
        warm_ups=warm,
    )
    yield "config.pbtxt", configuration.to_text()
    for file in graph.files:
        yield f"{MODEL_VERSION}/{file}", artifact.file(file)
    if labels:
        yield labels, artifact.file(labels)
    for warm_up in warm:
        for tensor, file in warm_up.files.items():
            yield f"warmup/{file}", to_bytes(warm_up.arrays[tensor])


def _python_files(artifact: Artifact, model: str, precision: str) -> Iterator[tuple[str, str | bytes | Path]]:
    manifest = artifact.manifest
    encoded = encoded_inputs(manifest)
    specs = input_specs(manifest)
    if any(spec.name == NAME_TENSOR for spec in specs):
        raise InputError(
            f"'{manifest.name}': has an input '{NAME_TENSOR}', which in Triton names the rows. Rename the input, and "
            "export again."
        )
    chosen = {} if precision == FULL_PRECISION else {PRECISION_PARAMETER: precision}
    text = TensorSpec(name="", datatype=BYTES, shape=(-1, 1))
    configuration = Configuration(
        about=f"'{manifest.name}' as 'truecopy predict' runs it: one row of JSON per input.",
        name=model,
        backend="python",
        file="model.py",
        batched=True,
        inputs=[
            msgspec.structs.replace(text, name=spec.name) if spec.name in encoded else _with_columns(spec)
            for spec in specs
        ],
        optional_inputs=[msgspec.structs.replace(text, name=NAME_TENSOR)],
        outputs=[msgspec.structs.replace(text, name=ROW_TENSOR)],
        instances=_PYTHON_INSTANCES,
        parameters={DIGEST_PARAMETER: artifact_digest(artifact.path), **chosen},
    )
    yield "config.pbtxt", configuration.to_text()
    yield f"{MODEL_VERSION}/model.py", _MODEL
    for file in (LAYOUT.manifest, *manifest.files):
        yield f"{MODEL_VERSION}/{ARTIFACT_FOLDER}/{file}", artifact.path / file


def _with_columns(spec: TensorSpec) -> TensorSpec:
    """Return texts, one per row, as Triton represents them: in a column."""
    return msgspec.structs.replace(spec, shape=(-1, 1)) if spec.datatype == BYTES and spec.shape == (-1,) else spec

"""The folders that 'truecopy deploy triton' writes, read as Triton reads them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from support.triton_server import ask

from runtime.server.open_inference.tensors import BYTES, DTYPES, from_bytes

Configuration = dict[str, Any]


def read_configurations(written: Path) -> dict[str, Configuration]:
    """Return what tritonclient's own protobuf reads in every config.pbtxt, by the model's name."""
    lines = ask("triton_configuration", *sorted(written.glob("*/*/config.pbtxt"))).splitlines()
    return {config["name"]: config for config in map(json.loads, lines)}


def run_warm_ups(model: Path, config: Configuration) -> list[dict[str, NDArray[Any]]]:
    """Return what a model's graph answers to each warm-up: what Triton's onnxruntime backend does with the folder.

    Raises AssertionError where data, types or shapes are not those of the configuration.
    """
    session = onnxruntime.InferenceSession(
        model / "1" / config["default_model_filename"], providers=["CPUExecutionProvider"]
    )
    dims = {tensor["name"]: tensor["dims"] for tensor in (*config["input"], *config["output"])}
    types = {tensor["name"]: tensor["data_type"] for tensor in config["input"]}
    answers = []
    for warm_up in config["model_warmup"]:
        tensors = {}
        for name, data in warm_up["inputs"].items():
            shape = [int(length) for length in data["dims"]]
            assert data["data_type"] == types[name]
            assert _fits(shape, dims[name]), (name, shape, dims[name])
            content = memoryview((model / "warmup" / data["input_data_file"]).read_bytes())
            datatype = data["data_type"].removeprefix("TYPE_").replace("STRING", BYTES)
            assert datatype in {BYTES, *DTYPES}
            array = from_bytes(content, datatype, [1, *shape], name)
            tensors[name] = array.repeat(warm_up["batch_size"], axis=0)
        outputs = dict(zip([output.name for output in session.get_outputs()], session.run(None, tensors), strict=True))
        assert outputs.keys() == {output["name"] for output in config["output"]}
        for name, array in outputs.items():
            assert len(array) == warm_up["batch_size"]
            assert _fits(array.shape[1:], dims[name]), (name, array.shape, dims[name])
        answers.append(outputs)
    return answers


def _fits(shape: Sequence[int], dims: Sequence[str]) -> bool:
    return len(shape) == len(dims) and all(int(dim) in {-1, length} for length, dim in zip(shape, dims, strict=True))

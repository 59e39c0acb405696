"""Networks of texts with dynamic ranges: tables and products in 8 bits; no text's scores depend on its neighbors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import truecopy
from exporter.errors import ParityError
from exporter.precision import int8, search
from exporter.precision.data import read_data
from exporter.precision.graphs import NetworkGraph, read_network
from exporter.precision.promises import broken_weight, changed_constant
from exporter.precision.quantize import quantize
from exporter.precision.variant import VariantRequest
from runtime.artifact.open import open_artifact
from runtime.server.served_model import load_verified
from runtime.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:.*no fast int8 instructions")


@pytest.fixture(scope="module", autouse=True)
def only_dynamic() -> Iterator[None]:
    """Static ranges, which are tried first, are not: they are tested apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_SMOOTHINGS", ())
        yield


@pytest.fixture(scope="module")
def quantized(artifact: Path, texts: Path, only_dynamic: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quantized") / "reader"
    quantize(artifact, VariantRequest(calibration=texts, min_agreement=0.9), out=out)
    return out


def test_tables_and_products_are_smaller_and_measured(quantized):
    manifest = open_artifact(quantized).manifest
    own = manifest.variant("int8")

    assert own.approximation is not None
    assert own.approximation.quantization.method == "dynamic"
    assert own.approximation.quantization.fp32_nodes == ()
    assert own.approximation.agreement.share >= 0.9
    sizes = [manifest.files[one.weights].size_bytes for one in manifest.variants]
    assert sizes[1] < 0.4 * sizes[0]
    assert verify(quantized, precision="int8").passed
    assert verify(quantized).passed


def test_a_table_names_its_column(artifact, texts, tmp_path):
    table = tmp_path / "texts.csv"
    table.write_text("".join(["words,label\n", *(f"{line},x\n" for line in texts.read_text().splitlines())]))

    with pytest.raises(truecopy.TruecopyError, match="expected --column with one of 'words', 'label'"):
        quantize(artifact, VariantRequest(calibration=table, min_agreement=0.9), out=tmp_path / "out")
    with truecopy.load(artifact) as model:
        read, listed = read_data(model, table, 0.9, column="words"), read_data(model, texts, 0.9)
    assert read.describe() == listed.describe()


def test_twice_is_the_same_bytes(artifact, quantized, texts, tmp_path):
    quantize(artifact, VariantRequest(calibration=texts, min_agreement=0.9), out=tmp_path / "again")

    for path in quantized.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_no_text_depends_on_its_neighbors(quantized):
    texts = ["good", "very very bad it is not good", "one two three", "bad bad bad bad"]
    with truecopy.load(quantized, precision="int8", batch=4) as model:
        alone = [model.predict(text).probability for text in texts]
        together = [result.probability for result in model.predict(texts)]
    served = load_verified(quantized, name="", precision="int8", device="cpu", cores=1, max_pixels=10**7)

    assert alone == together
    assert len(set(alone)) == len(alone)
    prepared = [served.single_threaded.prepare(text) for text in texts]
    assert [float(np.max(scores)) for scores in served.single_threaded.score(prepared)] == alone


@pytest.mark.parametrize(
    ("suffix", "change"), [("_scale", lambda array: array * 2), ("_zero_point", lambda array: array + 1)]
)
def test_a_wrong_constant_is_found_by_its_module(artifact, texts, monkeypatch, tmp_path, suffix, change):
    honest = int8.quantize_dynamic

    def planted(network, **options):
        quantized = honest(network, **options)
        for tensor in quantized.model.graph.initializer:
            if tensor.name == "words.weight" + suffix:
                array = onnx.numpy_helper.to_array(tensor).copy()
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(change(array), array.dtype), tensor.name))
        return quantized

    monkeypatch.setattr(search, "quantize_dynamic", planted)
    monkeypatch.setattr(search.ProductSearch, "_ways", lambda self, _: iter([self._dynamic(())]))

    with pytest.raises(ParityError, match=r"the weight of 'words' is off by [\d.]+ steps of its scale"):
        quantize(artifact, VariantRequest(calibration=texts, min_agreement=0.9), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_constant_that_stays_is_that_of_fp32(artifact):
    network = read_network(open_artifact(artifact), with_tables=True)
    quantized = int8.quantize_dynamic(network, reduce_range=False)
    assert changed_constant(network, quantized) == ""

    bias = next(value for value in quantized.model.graph.initializer if value.name == "hidden.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(1.001 * onnx.numpy_helper.to_array(bias), bias.name))

    assert "the constant 'hidden.bias' of 'hidden' is not that of fp32" in changed_constant(network, quantized)


def test_a_convolution_stays_in_fp32_and_is_listed():
    """There are no kernels of convolutions with ranges of each input."""
    weights = {"conv.weight": np.ones((4, 3, 3), np.float32), "head.weight": np.eye(4, 2, dtype=np.float32)}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "conv.weight"], ["features"], name="conv"),
            onnx.helper.make_node("ReduceMax", ["features", "axes"], ["most"], name="most", keepdims=0),
            onnx.helper.make_node("MatMul", ["most", "head.weight"], ["y"], name="head"),
        ],
        "network",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 2])],
        [
            *(onnx.numpy_helper.from_array(array, name) for name, array in weights.items()),
            onnx.numpy_helper.from_array(np.array([2]), "axes"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    network = NetworkGraph(
        model=model,
        weighted={"conv": "conv", "head": "head"},
        weights={"conv": "conv.weight", "head": "head.weight"},
        inner=("conv", "most", "head"),
        ends=("conv", "head"),
        tables=(),
    )

    quantized = int8.quantize_dynamic(network, reduce_range=False)

    assert quantized.nodes == ("head",)
    assert quantized.quantization.fp32_nodes == ("conv",)
    assert broken_weight(network, quantized) == ""

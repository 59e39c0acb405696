"""Every category of every column, whatever rows the samples have."""

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from mutation.planting import rehash
from onnx import numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

import exporter
from exporter.options.export import ExportOptions
from exporter.recheck import recheck_artifact

CITIES = [f"city {number}" for number in range(300)]


@pytest.fixture(scope="module")
def table():
    frame = pd.DataFrame({"age": np.linspace(18, 80, 600), "city": CITIES * 2})
    return ColumnTransformer(
        [("age", StandardScaler(), ["age"]), ("city", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    ).fit(frame)


def test_two_categories_that_no_sample_has_are_found_swapped(table, tmp_path):
    torch.manual_seed(0)
    network = nn.Linear(301, 3).eval()
    torch.save(network.state_dict(), tmp_path / "line.pth")
    artifact = exporter.export(tmp_path / "line.pth", network, preprocess=table, out=tmp_path / "line").artifact
    options = ExportOptions(checkpoint=tmp_path / "line.pth", arch=network, preprocess=table)

    (check,) = [one for one in recheck_artifact(artifact, options).evidence.whole if one.subject == "categories"]
    assert (check.count, check.fault) == (300, None)

    for path in artifact.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        for node in model.graph.node:
            for attribute in node.attribute:
                if b"city 123" in attribute.strings:
                    places = [list(attribute.strings).index(name) for name in (b"city 123", b"city 217")]
                    attribute.strings[places[0]], attribute.strings[places[1]] = b"city 217", b"city 123"
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.STRING and b"city 123" in tensor.string_data:
                words = numpy_helper.to_array(tensor).astype(object)
                words[words == "city 123"], words[words == "city 217"] = "held", "city 123"
                words[words == "held"] = "city 217"
                tensor.CopyFrom(numpy_helper.from_array(words, tensor.name))
        path.write_bytes(model.SerializeToString())
    rehash(artifact)

    (check,) = [one for one in recheck_artifact(artifact, options).evidence.whole if one.subject == "categories"]

    assert check.fault == "value"
    assert "column 'city', category 'city 123'" in check.finding

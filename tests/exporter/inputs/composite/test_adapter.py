"""A photo and a row of one network, exported once: predicted in every form, served, verified, and faults caught."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from support.parts import swap_inputs
from support.serving import serving
from torch import Tensor, nn
from torchvision import transforms

import exporter
import runtime
from exporter.errors import ExportError
from exporter.options.export import ExportOptions
from exporter.recheck import recheck_artifact
from runtime.jobs.sources import read_inputs
from runtime.manifest import LAYOUT
from runtime.verify import verify

DATA = Path(__file__).parents[3] / "data"
FRAME = pd.DataFrame(
    {"age": [20.0, 40.0, np.nan, 60.0] * 9, "height": [1.5, 1.7, 1.9] * 12, "city": ["Bern", "Oslo", "Rome"] * 12}
)
COLUMNS = ColumnTransformer(
    [
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "height"]),
        ("city", OneHotEncoder(), ["city"]),
    ]
).fit(FRAME)
TRANSFORM = transforms.Compose(
    [
        transforms.Resize(20),
        transforms.CenterCrop(16),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.2] * 3),
    ]
)
LABELS = ["low", "middle", "high"]
ROW = {"age": 30, "height": 1.6, "city": "Bern"}
CAT, COFFEE = DATA / "cat.jpg", DATA / "coffee.jpg"
PARTS = {"photo": TRANSFORM, "row": COLUMNS}


class PhotoAndRow(nn.Module):
    """The mean color and the features of a row, to three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.photo = nn.Conv2d(3, 4, 3, 2)
        self.row = nn.Linear(5, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, photo: Tensor, row: Tensor) -> Tensor:
        colors = self.photo(photo).relu().mean((2, 3))
        return 4 * self.head(torch.cat([colors, self.row(row).relu()], 1))


class OneDictionary(PhotoAndRow):
    """The same of a dictionary, as a Dataset gives it."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["photo"], batch["row"])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return OneDictionary().eval()


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("parts") / "both.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def exported(network, checkpoint):
    return exporter.export(checkpoint, network, parts=PARTS, labels=LABELS, out=checkpoint.with_suffix(""))


@pytest.fixture(scope="module")
def model(exported):
    return runtime.load(exported.artifact, device="cpu")


def by_eager(network: nn.Module, photo: Path, row: dict) -> np.ndarray:
    features = torch.tensor(COLUMNS.transform(pd.DataFrame([row])), dtype=torch.float32)
    pixels = TRANSFORM(Image.open(photo).convert("RGB"))[np.newaxis]
    with torch.no_grad():
        return network({"photo": pixels, "row": features}).softmax(1)[0].numpy()


def test_both_parts_change_the_result_as_they_change_the_eager_models(network, model):
    inputs = [
        (photo, {**ROW, "age": age, "city": city}) for photo, age, city in ((CAT, 30, "Bern"), (COFFEE, 55, "Rome"))
    ]
    inputs += [(CAT, {**ROW, "city": "Oslo"}), (CAT, {**ROW, "age": None})]

    results = model.predict([{"photo": photo, "row": row} for photo, row in inputs], top_k=3)

    for (photo, row), result in zip(inputs, results, strict=True):
        scores = np.zeros(3)
        for entry in result.top:
            scores[entry.index] = entry.probability
        assert np.allclose(scores, by_eager(network, photo, row), atol=1e-5)
    assert len({result.top[0].probability for result in results}) == len(results)


def test_the_artifact_is_verified_with_its_own_golden_inputs(exported, model):
    verification = verify(exported.artifact, device="cpu")

    assert verification.passed
    assert {check.name for check in verification.checks} >= {"prepared", "in a batch", "labels", LAYOUT.model}
    # Photos among the golden inputs are JPEG, whose pixels may be rounded elsewhere; numbers are not.
    assert any(check.lossy for check in verification.checks)
    assert [spec.name for spec in model.manifest.inputs] == ["photo", "row"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"row": ROW}, "part 'photo': missing: expected 'photo', 'row', got 'row'"),
        ({"photo": CAT, "row": ROW, "meta": 1}, "part 'meta': unknown: expected 'photo', 'row'"),
        ({"photo": "none.jpg", "row": ROW}, "part 'photo': no such file"),
        ({"photo": b"GIF", "row": ROW}, "part 'photo': not an image"),
        ({"photo": CAT, "row": {**ROW, "age": "old"}}, "part 'row': column 'age': not a number"),
        ({"photo": CAT, "row": {"age": 3}}, "part 'row': wrong columns"),
        (CAT, "not an array"),
        ([1], "one input of several parts"),
    ],
)
def test_a_fault_of_a_part_names_the_part(model, source, message):
    with pytest.raises(runtime.InputError, match=message):
        model.prepare(source)


def test_the_pixels_of_all_parts_together_are_limited(exported):
    limited = runtime.load(exported.artifact, device="cpu", max_pixels=1_000)

    with pytest.raises(runtime.InputError, match=r"part 'photo': .*megapixels"):
        limited.predict({"photo": CAT, "row": ROW})


def test_a_table_has_a_column_per_part_with_paths_from_its_own_folder(model, tmp_path, monkeypatch):
    shutil.copy(CAT, tmp_path / "cat.jpg")
    (tmp_path / "flat.csv").write_text("photo,age,height,city\ncat.jpg,30,1.6,Bern\ngone.jpg,30,1.6,Bern\n")
    (tmp_path / "nested.jsonl").write_text(
        json.dumps({"photo": "cat.jpg", "row": ROW}) + "\n" + '{"photo": "cat.jpg"}\n'
    )
    (tmp_path / "one.json").write_text(json.dumps({"photo": "cat.jpg", "row": ROW}))
    monkeypatch.chdir(DATA)
    expected = model.predict({"photo": CAT, "row": ROW})

    results = {
        name: list(model.predict_each(read_inputs(model, tmp_path / name)))
        for name in ("flat.csv", "nested.jsonl", "one.json")
    }

    assert [rows[0].top == expected.top for rows in results.values()] == [True] * 3
    assert "part 'photo': no such file" in results["flat.csv"][1].error
    assert "part 'row': missing" in results["nested.jsonl"][1].error


def test_the_server_takes_json_a_form_and_the_tensors_of_all_parts(exported, model):
    expected = model.predict({"photo": CAT, "row": ROW})
    photo = base64.b64encode(CAT.read_bytes()).decode()
    boundary = b"--x\r\n"
    form = (
        boundary
        + b'Content-Disposition: form-data; name="photo"; filename="cat.jpg"\r\n\r\n'
        + CAT.read_bytes()
        + b"\r\n"
        + boundary
        + b'Content-Disposition: form-data; name="row"\r\n\r\n'
        + json.dumps(ROW).encode()
        + b"\r\n--x--\r\n"
    )
    tensors = [
        {"name": "photo", "datatype": "BYTES", "shape": [1], "data": [photo]},
        {"name": "row.age", "datatype": "FP64", "shape": [1, 1], "data": [30]},
        {"name": "row.height", "datatype": "FP64", "shape": [1, 1], "data": [1.6]},
        {"name": "row.city", "datatype": "BYTES", "shape": [1, 1], "data": ["Bern"]},
    ]
    bodies = [{"input": {"photo": photo, "row": ROW}}, {"inputs": [{"photo": photo, "row": ROW}, {"photo": photo}]}]

    with serving(f"both={exported.artifact}") as server:
        single, several = (server.post("/predict/both", json.dumps(body).encode()).json for body in bodies)
        of_form = server.post("/predict/both", form, Content_Type="multipart/form-data; boundary=x").json
        infer = server.post("/v2/models/both/infer", json.dumps({"inputs": tensors}).encode()).json
        wrong = server.post("/predict/both", json.dumps({"input": {"photo": "?", "row": ROW}}).encode())
        metadata = server.get("/v2/models/both").json

    probabilities = [entry.probability for entry in expected.top]
    for response in (single, several, of_form):
        assert [entry["probability"] for entry in response["predictions"][0]["top"]] == pytest.approx(probabilities)
    assert "part 'row': missing" in several["predictions"][1]["error"]
    assert sorted(infer["outputs"][0]["data"], reverse=True) == pytest.approx(probabilities)
    assert (
        "part 'photo': not base64" in wrong.json["predictions"][0]["error"]
        if wrong.status == 200
        else wrong.json["error"]
    )
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["photo", "row.age", "row.height", "row.city"]


def test_parity_is_proven_again_from_the_same_parts(exported, network, checkpoint):
    result = recheck_artifact(exported.artifact, again(network, checkpoint), pixels=False)

    assert result.evidence.passed, result.evidence.reason
    assert any("categories of part 'row'" in check.subject for check in result.evidence.whole)


def test_columns_in_another_order_are_caught(exported, network, checkpoint, tmp_path):
    swapped = shutil.copytree(exported.artifact, tmp_path / "swapped")
    swap_inputs(swapped, "row.age", "row.height")

    result = recheck_artifact(swapped, again(network, checkpoint), pixels=False)

    assert result.evidence.verdict == "failed"
    assert "arithmetic" in result.evidence.reason
    assert not verify(swapped, device="cpu").passed


def test_another_transform_of_a_part_is_caught(exported, network, checkpoint):
    other = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor()])

    with pytest.raises(ExportError, match="another transform was folded in"):
        recheck_artifact(exported.artifact, again(network, checkpoint, photo=other), pixels=False)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"photo": TRANSFORM, "row": {"input": "tokens[batch,length]"}}, "part 'row': token sequences are no part"),
        ({"photo": TRANSFORM, "row": {"input": "float32[5,batch]"}}, "part 'row': the batch is not its first"),
        ({"photo": {"exif": True}, "row": COLUMNS}, "part 'photo': .*no transform is known"),
        ({"photo": "none.py:transform", "row": COLUMNS}, "part 'photo': .*none"),
    ],
)
def test_a_part_that_cannot_be_one_is_refused_by_name(network, checkpoint, tmp_path, parts, message):
    with pytest.raises(ExportError, match=message):
        exporter.export(checkpoint, network, parts=parts, out=tmp_path / "out")


def again(network: nn.Module, checkpoint: Path, **parts: object) -> ExportOptions:
    return ExportOptions.from_keywords(checkpoint, network, parts={**PARTS, **parts})

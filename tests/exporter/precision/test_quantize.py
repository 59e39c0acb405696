"""'truecopy quantize' end to end: what it writes, what it refuses, and what becomes of the variant afterwards."""

import hashlib
import io
import json
import pickle
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from mutation.planting import rehash
from onnx import numpy_helper
from PIL import Image
from typer.testing import CliRunner

import truecopy
from exporter import ExportError, workflow
from exporter.calibration.fit import calibrate
from exporter.errors import ParityError
from exporter.precision import search, variant
from exporter.precision.accuracy import describe_permuted
from exporter.precision.data import PreparedSource, needed_inputs
from exporter.precision.flips import draw_flips, draw_golden_flips
from exporter.precision.quantize import quantize
from exporter.precision.scores import check_task, compare_scores
from exporter.recheck import _variant_rows
from runtime.artifact import variants
from runtime.artifact.golden import golden_outputs_to_npz, read_golden_outputs
from runtime.artifact.open import open_artifact
from runtime.cli.main import build_app
from runtime.errors import ArtifactError, DeviceError
from runtime.manifest import Regress, TextInput, Value
from runtime.outputs.metrics import Evaluation
from runtime.server.served_model import load_verified
from runtime.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:.*no fast int8 instructions")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_variant_is_approximate_measured_and_beside_an_unchanged_fp32(tiny, quantized, report):
    manifest = open_artifact(quantized).manifest
    full, own = manifest.variants
    measured = own.approximation

    assert (full.precision, full.approximation, own.precision) == ("fp32", None, "int8")
    assert measured is not None
    assert measured.verdict == "approximate"
    assert measured.data.calibrated == 32
    assert measured.data.measured == measured.agreement.inputs >= 20
    assert measured.agreement.equal / measured.agreement.inputs >= measured.min_agreement == 0.95
    assert measured.agreement.low < measured.agreement.share <= measured.agreement.high
    assert 0 < measured.agreement.mean_score_difference < measured.agreement.score_difference < 0.2
    assert measured.quantization.per_channel
    before, after = files_of(tiny), files_of(quantized)
    assert {name for name in before if before[name] != after.get(name)} == {"truecopy.json"}
    assert {*own.files} == after.keys() - before.keys()
    # 'truecopy quantize' measures the times and the way there; they are no part of the bytes.
    assert {trial.quantization.ranges for trial in report.trials} == {"min-max", "percentile", "entropy"}
    assert report.ratio > 0


def test_labels_of_inputs_that_were_not_calibrated_with_give_an_accuracy(report):
    accuracy = report.approximation.accuracy

    assert accuracy is not None
    assert accuracy.inputs == report.approximation.data.measured
    assert accuracy.fp32 > 0.9
    assert accuracy.variant > 0.9


def test_labels_of_other_classes_are_noticed():
    def remark(confusion: list[list[int]]) -> str:
        rows = tuple(map(tuple, confusion))
        return describe_permuted(
            Evaluation(artifact="a", task="classify", inputs=30, failures={}, confusion=rows), ("cat", "cup", "car")
        )

    assert "such as 'cup' to 'cat'" in remark([[1, 9, 0], [0, 1, 9], [9, 0, 1]])
    assert remark([[9, 1, 0], [1, 9, 0], [0, 9, 1]]) == ""
    assert remark([]) == ""


def test_another_artifact_is_never_replaced(tiny, request_for, tmp_path):
    shutil.copytree(tiny, tmp_path / "other")

    with pytest.raises(ExportError, match=r"other': exists already\. Pass another folder with --out"):
        quantize(tiny, request_for(), out=tmp_path / "other")


def test_the_runtime_runs_it_from_the_photo_to_the_label(quantized, tiny):
    with truecopy.load(quantized, precision="int8") as own, truecopy.load(quantized) as full:
        for label in ("cat", "coffee", "rocket", "astronaut"):
            path = tiny.parent / f"{label}.jpg"
            ours, theirs = own.predict(path), full.predict(path)
            assert ours.label == theirs.label == label
            assert ours.probability != theirs.probability
        assert pickle.loads(pickle.dumps(own)).variant.precision == "int8"  # noqa: S301
        raw = own.run({"image": np.asarray(Image.open(path))[np.newaxis]})
        assert set(raw) == {"probabilities"}


def test_verify_compares_each_variant_with_what_was_measured_of_it(quantized):
    full, own = (verify(quantized, precision=precision) for precision in ("fp32", "int8"))

    assert full.passed
    assert own.passed
    assert {"model.int8.onnx", "in a batch", "labels"} <= {check.name for check in own.checks}
    assert own.compared_with == "the int8 outputs that were measured"
    assert {row.path for row in _variant_rows(open_artifact(quantized))} == {"golden.int8.npz"}


@pytest.mark.parametrize(
    ("stale", "problem"),
    [
        (True, "its int8 variant belongs to other fp32 graphs: expected those with the SHA-256"),
        (False, "its int8 variant was measured on the inputs that it was calibrated with"),
    ],
)
def test_a_variant_of_other_weights_or_of_one_set_of_data_is_refused(quantized, tmp_path, stale, problem):
    folder = tmp_path / "copy"
    shutil.copytree(quantized, folder)
    if stale:  # int8's own files, and its golden outputs, stay as they were
        weights = np.fromfile(folder / "weights.bin", np.float32)
        (1.05 * weights).astype(np.float32).tofile(folder / "weights.bin")
        rehash(folder)
    else:
        manifest = json.loads((folder / "truecopy.json").read_bytes())
        data = manifest["variants"][1]["approximation"]["data"]
        data["measured_sha256"] = data["calibrated_sha256"]
        (folder / "truecopy.json").write_text(json.dumps(manifest))

    with pytest.raises(ArtifactError, match=problem):
        open_artifact(folder)


def test_a_server_serves_it(quantized):
    model = load_verified(quantized, name="", precision="int8", device="cpu", cores=2, max_pixels=10**7)

    assert model.single_threaded.variant.precision == model.multi_threaded.variant.precision == "int8"


def test_twice_is_the_same_bytes_whatever_the_photos_are_called(quantized, crops, request_for, tmp_path):
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for number, path in enumerate(sorted(crops.rglob("*.png"), reverse=True)):
        shutil.copy(path, renamed / f"{number}.png")
    shutil.copy(path, renamed / "again.png")  # one photo twice counts once
    keep = min(crops.rglob("*.png"), key=lambda path: hashlib.sha256(path.read_bytes()).digest())
    Image.open(keep).save(renamed / "pixels.bmp")  # in two formats as well, of which one is kept

    quantize(quantized, request_for(calibration=renamed, labels_from=crops), out=tmp_path / "again")

    assert files_of(tmp_path / "again") == files_of(quantized)


def with_twin_classes(tiny: Path, folder: Path) -> Path:
    """Return a copy of the artifact whose first two classes have the same weights, and biases a hair apart.

    Of the two, fp32 always prefers the second; in int8 they are equal, on every processor, and the first one wins.
    """
    shutil.copytree(tiny, folder)
    weights = bytearray((folder / "weights.bin").read_bytes())
    for name in ("network.onnx", "model.onnx"):
        model = onnx.load(folder / name, load_external_data=False)
        constants = {value.name: value for value in model.graph.initializer}
        bias = numpy_helper.to_array(constants["classifier.bias"]).copy()
        bias[1] = bias[0] + 4e-6
        constants["classifier.bias"].CopyFrom(numpy_helper.from_array(bias, "classifier.bias"))
        place = {entry.key: entry.value for entry in constants["classifier.weight"].external_data}
        (folder / name).write_bytes(model.SerializeToString())
    first = slice(int(place["offset"]), int(place["offset"]) + 256 * 4)
    weights[first.stop : first.stop + 256 * 4] = weights[first]
    (folder / "weights.bin").write_bytes(weights)
    rehash(folder)
    return folder


def test_too_little_agreement_writes_nothing_and_names_the_costly_modules(tiny, request_for, tmp_path, monkeypatch):
    artifact = with_twin_classes(tiny, tmp_path / "twins")
    # The search would find that the last layer has to stay in fp32.
    monkeypatch.setattr(search.StaticSearch, "_ways", lambda self, _: iter([self._quantize("min-max", ())]))

    with pytest.raises(ParityError) as caught:
        quantize(artifact, request_for(html=tmp_path / "page.html"), out=tmp_path / "out")

    message = str(caught.value)
    assert "int8 agrees with fp32 on" in message
    assert re.search(r"'(classifier|features\.\d)' \(\d+\.\d% alone, scores off by", message)
    assert re.search(r"largest fp32 margin of a flipped label is [0-9.]+e-0[5-7]", message)
    assert {path.name for path in tmp_path.iterdir()} == {"twins", "page.html"}
    page = (tmp_path / "page.html").read_text()
    assert "Nothing was written." in page
    assert "<th>module</th>" in page


def test_flipped_labels_are_named_with_their_inputs_and_where_fp32_was_surest_first(
    tiny, request_for, tmp_path, monkeypatch
):
    artifact = with_twin_classes(tiny, tmp_path / "twins")
    monkeypatch.setattr(search.StaticSearch, "_ways", lambda self, _: iter([self._quantize("min-max", ())]))

    crops = tmp_path / "<b>&crops"
    shutil.copytree(request_for().calibration, crops)

    page = tmp_path / "page.html"
    request = request_for(calibration=crops, min_agreement=0.1, html=page)
    report = quantize(artifact, request, out=tmp_path / "out")

    agreement = report.approximation.agreement
    assert len(report.flips) == agreement.inputs - agreement.equal > 0
    assert report.flips[0].margin == agreement.flipped_margin
    assert report.flips[0].input.endswith(".png")
    assert {frozenset((flip.fp32, flip.variant)) for flip in report.flips} == {frozenset(("cat", "coffee"))}
    text = page.read_text()
    assert '<p class="verdict">approximate</p>' in text
    assert text.count('src="data:image/png;base64,') == len(report.flips)
    assert "&lt;b&gt;&amp;crops" in text
    assert "<b>" not in text
    assert not re.search(r"(src|href)=.(?!data:)", text)  # it loads nothing else


def test_the_parity_page_has_the_golden_inputs_whose_label_flipped(quantized, tmp_path):
    assert draw_golden_flips(open_artifact(quantized), "int8") == ()

    folder = tmp_path / "flipped"
    shutil.copytree(quantized, folder)
    own = read_golden_outputs(folder / "golden.int8.npz", count=17)
    own[2] = {"probabilities": np.roll(own[2]["probabilities"], 1, axis=1)}
    (folder / "golden.int8.npz").write_bytes(golden_outputs_to_npz(own))
    rehash(folder)
    (flip,) = draw_golden_flips(open_artifact(folder), "int8")

    assert flip.title == "int8: golden input 2"
    assert re.match(r"\w+ in fp32, \w+ in int8; fp32's margin is 0\.\d", flip.caption)
    assert Image.open(io.BytesIO(flip.images[0].png)).size == (32, 32)
    assert len(flip.scores) == 4


@pytest.mark.parametrize("source", [{"city": "Bern", "age": 3}, b"many  words\n" * 99, "a text"])
def test_inputs_that_are_no_photos_are_shown_in_short(tiny, source):
    manifest = open_artifact(tiny).manifest
    texts = msgspec.structs.replace(
        manifest, inputs=(TextInput(name="text", tokenizer="t.json", arrays=("input_ids",), max_length=9),)
    )
    prepared = PreparedSource(name="texts.csv#1" * 99, source=source, sha256="", arrays={})
    outputs = [{"probabilities": np.eye(4, dtype=np.float32)[[index]]} for index in (0, 1)]
    scores = compare_scores(outputs[:1], outputs[1:], texts, "abcd")

    (flip,) = draw_flips(scores, [prepared], (outputs[:1], outputs[1:]), texts, "abcd", precision="int8")

    shown = {"dict": "city=Bern, age=3", "bytes": "many words many words", "str": "a text"}
    assert shown[type(source).__name__] in flip.caption
    assert len(flip.caption) < 300
    assert len(flip.title) == 160
    assert flip.images == ()


def test_needed_inputs_follow_from_the_agreement():
    assert needed_inputs(0.99) == (32, 100)
    assert needed_inputs(0.9) == (32, 10)
    assert needed_inputs(1.0) == (32, 100)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda _folder: None, "no such file or folder. Check the path in --calibration"),
        (lambda folder: (folder / "a.txt").write_text("hello"), "no files such as"),
        (
            lambda folder: shutil.copy(Path(__file__).parents[2] / "data/cat.jpg", folder),
            "at least 132 different inputs, got 1",
        ),
    ],
    ids=["missing", "of another kind", "too little"],
)
def test_data_that_cannot_do_is_refused_before_anything_is_loaded(tiny, tmp_path, make, problem, monkeypatch):
    monkeypatch.setattr(variant, "StaticSearch", None)
    folder = tmp_path / "data"
    if make.__code__.co_varnames[0] == "folder":
        folder.mkdir()
        make(folder)

    with pytest.raises(truecopy.TruecopyError, match=problem):
        quantize(tiny, variant.VariantRequest(calibration=folder), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photos_that_do_not_decode_are_counted_and_named(tiny, crops, tmp_path):
    shutil.copytree(crops, tmp_path / "data")
    for path in (tmp_path / "data" / "cat").iterdir():
        path.write_bytes(b"no photo")

    with pytest.raises(ExportError, match=r"at least 52 different inputs, got 4\d\..* 15 could not be used: .*cat"):
        quantize(tiny, variant.VariantRequest(calibration=tmp_path / "data", min_agreement=0.95), out=tmp_path / "out")


def test_a_task_without_labels_has_no_agreement():
    with pytest.raises(
        ExportError,
        match=r"'price': .* which a task of regress does not give: expected classify",
    ):
        check_task(Regress(values=(Value(name="price"),)), "price")


def test_a_precision_that_is_missing_names_those_that_are_there(tiny, quantized):
    with pytest.raises(ArtifactError, match="no precision 'int8' in this artifact: it has fp32"):
        truecopy.load(tiny, precision="int8")
    with pytest.raises(ArtifactError, match="no precision 'fp16' in this artifact: it has fp32, int8"):
        truecopy.load(quantized, precision="fp16")


@pytest.mark.filterwarnings("error:.*no fast int8 instructions")
def test_a_processor_without_fast_int8_is_a_warning_with_the_measured_ratio(quantized, monkeypatch):
    monkeypatch.setattr(variants, "has_fast_int8", lambda: True)
    truecopy.load(quantized, precision="int8")
    monkeypatch.setattr(variants, "has_fast_int8", lambda: False)
    truecopy.load(quantized)
    with pytest.warns(UserWarning, match=r"int8 runs \d+\.\d\d times as fast as fp32 here, on one thread"):
        truecopy.load(quantized, precision="int8")


def test_it_runs_on_the_processor_that_it_was_measured_on(quantized):
    with pytest.raises(DeviceError, match="int8 was measured on the CPU alone"):
        truecopy.load(quantized, precision="int8", device="cuda")
    assert truecopy.load(quantized, precision="int8", device="auto").device == "cpu"


def test_calibrating_the_probabilities_leaves_the_variant_out_and_says_so(quantized, crops, tmp_path):
    shutil.copytree(crops, tmp_path / "data")
    for number in range(3):  # a model that is always right could be surer still, without end
        (tmp_path / "data" / "cat" / f"{number}.png").rename(tmp_path / "data" / "coffee" / f"cat{number}.png")

    result = calibrate(quantized, tmp_path / "data", out=tmp_path / "calibrated")

    assert [one.precision for one in open_artifact(tmp_path / "calibrated").manifest.variants] == ["fp32"]
    assert not (tmp_path / "calibrated" / "weights.int8.bin").exists()
    assert any("int8: left out" in note for note in result.notes)


def test_the_commands_list_it_run_it_and_ask_for_data(tiny, quantized):
    run = CliRunner().invoke
    photo = str(tiny.parent / "cat.jpg")

    assert "approximate" in run(build_app({"inspect"}), ["inspect", str(quantized)]).output
    listed = run(build_app({"inspect"}), ["inspect", str(quantized), "--json"])
    assert [one["precision"] for one in json.loads(listed.output)["variants"]] == ["fp32", "int8"]
    predicted = run(
        build_app({"predict"}), ["predict", str(quantized), photo, "--precision", "int8", "--format", "jsonl"]
    )
    assert json.loads(predicted.stdout)["label"] == "cat"
    refused = run(build_app({"quantize"}), ["quantize", str(tiny)])
    assert refused.exit_code != 0
    assert "--calibration: missing" in str(refused.exception)


def test_an_export_adds_the_variant_and_equals_export_and_quantize(export_mine, exported, crops, request_for, tmp_path):
    both = export_mine(precision="int8", calibration=crops, min_agreement=0.95)
    report = quantize(exported.artifact, request_for(), out=tmp_path / "later" / "mine")

    assert both.variant.approximation == report.approximation
    assert both.variant.artifact == str(both.artifact)
    assert files_of(both.artifact) == files_of(Path(report.artifact))
    assert verify(both.artifact, precision="int8").passed


def test_an_export_with_too_little_data_ends_before_the_network_is_converted(export_mine, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "infer_postprocessing", None)
    (tmp_path / "few").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "few" / "one.png")

    with pytest.raises(ExportError, match="at least 132 different inputs, got 1"):
        export_mine(precision="int8", calibration=tmp_path / "few")
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


def test_a_variant_whose_files_are_not_listed_is_refused(quantized, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(quantized, folder)
    manifest = json.loads((folder / "truecopy.json").read_text())
    del manifest["files"]["golden.int8.npz"]
    (folder / "truecopy.json").write_text(json.dumps(manifest))

    with pytest.raises(ArtifactError, match=r"expected 'golden\.int8\.npz' among its files"):
        open_artifact(folder)

"""The main job: an artifact equal to the eager model, byte for byte the same each time, or nothing at all."""

import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from PIL import Image

import exporter
import runtime
from exporter import workflow
from exporter.architectures import registry as families
from exporter.inputs import image as preprocessing
from runtime.manifest import LAYOUT


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_artifact_is_complete_and_its_manifest_tells_what_was_found(exported, checkpoint_file):
    assert set(everything_in(exported.artifact)) == {
        LAYOUT.manifest,
        "model.onnx",
        "network.onnx",
        "weights.bin",
        "model.torchscript",
        "golden.npz",
        "parity.json",
        "labels.txt",
    }
    manifest = exported.manifest
    assert manifest.name == checkpoint_file.stem
    assert set(manifest.files) == set(everything_in(exported.artifact)) - {LAYOUT.manifest}
    assert manifest.source.architecture.endswith("net.py:MyCNN")
    assert manifest.source.arguments == {"num_classes": 4}
    assert manifest.source.onnx_exporter == "dynamo"
    assert manifest.outputs[0].shape == ("batch", 4)
    assert manifest.tools["torch"] == torch.__version__


def test_the_proof_covers_every_path_and_stage(exported):
    report = exported.parity

    assert report.verdict == "passed"
    inner = ("geometry", "arithmetic", "network", "activation", "end to end")
    assert {(row.path, row.stage) for row in report.rows} == {
        *((path, stage) for path in ("model.onnx", "runtime", "model.torchscript") for stage in inner),
        ("runtime", "decode"),
        ("runtime", "labels"),
    }
    assert {row.group for row in report.rows} == {"photos", "generated", "batches"}
    assert report.batch_sizes == (1, 3, 16)
    assert {one.stage for one in report.noise} == {"arithmetic", "network", "activation", "end to end"}
    assert all(one.signal > 0.5 and 0 < one.floor < 1e-4 * one.size for one in report.noise)
    assert report.summary().label_agreement == 1.0
    by_name = {(row.path, row.stage): row for row in report.rows}
    assert by_name["runtime", "geometry"].difference == 0
    assert by_name["runtime", "end to end"].difference < 1e-5


def test_the_runtime_gives_eager_pytorchs_answer_on_a_photo_it_was_not_proven_with(
    exported, state_dict, net_file, photos
):
    spec = importlib.util.spec_from_file_location("another_import_of_net", net_file)
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    network = net.MyCNN(num_classes=4)
    network.load_state_dict(state_dict)
    photo = photos[2].rotate(7).resize((555, 371))
    with torch.no_grad():
        expected = torch.softmax(network.eval()(net.transform(photo)[None]), dim=-1)[0]

    prediction = runtime.load(exported.artifact).predict(photo, top_k=4)

    assert prediction.index == int(expected.argmax())
    for scored in prediction.top:
        assert scored.probability == pytest.approx(float(expected[scored.index]), abs=1e-5)


def test_model_onnx_uses_standard_operators_alone_and_shares_its_weights(exported):
    for name in ("model.onnx", "network.onnx"):
        path = exported.artifact / name
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path, load_external_data=False)
        assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx"}
        assert not model.functions
        external = [value for value in model.graph.initializer if value.data_location == onnx.TensorProto.EXTERNAL]
        assert external
        locations = {entry.value for value in external for entry in value.external_data if entry.key == "location"}
        assert locations == {"weights.bin"}
        assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_exporting_twice_gives_the_same_bytes(exported, export_mine, tmp_path):
    """In one process, where torch counts what it compiled, and to another folder."""
    again = export_mine(out=tmp_path / "elsewhere" / "other")

    assert everything_in(again.artifact) == everything_in(exported.artifact)


@pytest.mark.slow
def test_another_process_from_another_folder_gives_the_same_bytes(
    exported, checkpoint_file, net_file, labels_file, tmp_path
):
    command = [
        *(sys.executable, "-m", "exporter", str(checkpoint_file), "--arch", f"{net_file}:MyCNN"),
        *("--arch-arg", "num_classes=4", "--preprocess", f"{net_file}:transform", "--labels", str(labels_file)),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stderr
    assert everything_in(tmp_path / "artifacts" / "mine") == everything_in(exported.artifact)


def test_no_file_names_this_machine(exported):
    needles = [str(Path(__file__).parents[2]).encode(), str(Path.home()).encode(), sys.prefix.encode()]
    declared = exported.manifest.source.architecture.encode()
    for name, data in everything_in(exported.artifact).items():
        # The architecture's reference is the user's own text, recorded as given.
        content = data.replace(declared, b"")
        assert not [needle for needle in needles if needle in content], name


def test_torchscript_takes_photos_of_any_size(exported, photos):
    from exporter.conversion.to_torchscript import load_torchscript

    module = load_torchscript(exported.artifact / "model.torchscript")
    model = runtime.load(exported.artifact)
    for photo in (photos[0], photos[3].resize((90, 333)), photos[1].resize((7, 5))):
        image = np.asarray(photo)
        with torch.no_grad():
            scores = module(torch.from_numpy(image.copy())[None]).numpy()[0]
        assert scores == pytest.approx(model.run({"image": image[None]})["probabilities"][0], abs=0.02)


# --- defaults, said aloud ---------------------------------------------------------------------------------------------


class Heard:
    def __init__(self) -> None:
        self.findings: dict[str, str] = {}

    def started(self, name: str) -> None:
        assert name not in self.findings

    def advanced(self, name: str, done: int, planned: int) -> None:
        pass

    def finished(self, step: workflow.Step) -> None:
        self.findings[step.name] = step.finding


@pytest.mark.slow
def test_a_torchvision_architecture_brings_its_transform_and_labels_and_says_so(photos, give_signal, tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v3_small()
    transform = torchvision.models.MobileNet_V3_Small_Weights.DEFAULT.transforms()
    give_signal(network, torch.stack([transform(photo) for photo in photos]))
    torch.save({"epoch": 3, "state_dict": network.state_dict()}, tmp_path / "model.pth")
    heard = Heard()

    exported = exporter.export(tmp_path / "model.pth", "mobilenet_v3_small", out=tmp_path / "out", listener=heard)

    assert "under 'state_dict'" in heard.findings["read"]
    assert heard.findings["preprocessing"].startswith(
        "assumed, from MobileNet_V3_Small_Weights.IMAGENET1K_V1: Resize 256 bilinear antialias, CenterCrop 224"
    )
    assert heard.findings["labels"] == "assumed: ImageNet's 1000 category names; pass --labels for others"
    assert runtime.load(exported.artifact).labels[282] == "tiger cat"
    sizes = {name: file.size_bytes for name, file in exported.manifest.files.items()}
    payload = sizes["weights.bin"] + sum(tensor.nbytes for tensor in network.state_dict().values())
    assert sum(sizes.values()) <= 1.03 * payload, sizes


@pytest.mark.slow
def test_timm_brings_its_transform_and_says_so(photos, give_signal, tmp_path):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False, num_classes=7)
    transform = preprocessing.read_timm("test_resnet").transform
    give_signal(network, torch.stack([transform(photo) for photo in photos]))
    torch.save(network.state_dict(), tmp_path / "model.pth")
    heard = Heard()

    exported = exporter.export(tmp_path / "model.pth", "timm:test_resnet", out=tmp_path / "out", listener=heard)

    assert heard.findings["preprocessing"].startswith("assumed, from timm:test_resnet: Resize ")
    assert exported.manifest.outputs[0].shape == ("batch", 7)


@pytest.mark.slow
def test_a_hugging_face_folder_is_exported_with_its_processor(photos, give_signal, tmp_path):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    network = ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=5, **sizes))
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    give_signal(
        families.Logits(network),
        torch.stack([processor(photo, return_tensors="pt")["pixel_values"][0] for photo in photos]),
    )
    network.save_pretrained(tmp_path / "vit")
    processor.save_pretrained(tmp_path / "vit")

    exported = exporter.export(tmp_path / "vit", f"hf:{tmp_path / 'vit'}", out=tmp_path / "out")

    assert exported.manifest.inputs[0].preprocessing.geometry[0].implementation == "torch"
    with torch.no_grad():
        pixels = processor(photos[1], return_tensors="pt")["pixel_values"]
        expected = network(pixels).logits.softmax(dim=-1)[0]
    assert runtime.load(exported.artifact).predict(photos[1]).probability == pytest.approx(
        float(expected.max()), abs=1e-5
    )


def test_without_labels_classes_are_named_by_their_number(export_mine):
    exported = export_mine(labels=None)

    assert runtime.load(exported.artifact).labels == ("class 0", "class 1", "class 2", "class 3")


def test_a_network_that_ends_in_a_softmax_gets_no_second_one(export_mine, tmp_path, net_file):
    source = tmp_path / "soft.py"
    source.write_text(
        f"import importlib.util as u\nspec = u.spec_from_file_location('net', {str(net_file)!r})\n"
        "net = u.module_from_spec(spec); spec.loader.exec_module(net)\n"
        "class Soft(net.MyCNN):\n    def forward(self, x): return super().forward(x).softmax(dim=1)\n"
    )
    plain, soft = export_mine(), export_mine(arch=f"{source}:Soft", out=tmp_path / "soft")
    photo = Path(__file__).parents[1] / "data" / "cat.jpg"

    answers = [runtime.load(done.artifact).predict(photo).probability for done in (plain, soft)]
    assert answers[0] == pytest.approx(answers[1], abs=1e-6)


def test_the_users_own_photos_are_what_is_compared(export_mine, tmp_path, photos):
    samples = tmp_path / "samples"
    samples.mkdir()
    photos[0].save(samples / "a.png")
    photos[1].save(samples / "b.webp")
    (samples / "notes.txt").write_text("not a photo")

    evidence = export_mine(samples=samples).parity
    assert evidence.groups[0].inputs == ("a.png", "b.webp")
    assert evidence.groups[0].name == "samples"
    assert any("notes.txt" in sentence for sentence in evidence.not_proven)
    with pytest.raises(exporter.ParityError, match="no such file or folder"):
        export_mine(samples=tmp_path / "nowhere", force=True)


def test_a_loader_that_applied_exif_is_followed(export_mine, photos, tmp_path):
    exported = export_mine(exif=True, out=tmp_path / "turned")
    exif = Image.Exif()
    exif[0x0112] = 3
    stream = io.BytesIO()
    photos[1].save(stream, "PNG", exif=exif)

    model = runtime.load(exported.artifact)

    assert exported.manifest.inputs[0].exif
    assert model.predict(stream.getvalue()).probability == model.predict(photos[1].rotate(180)).probability
    assert model.warning_counts.get("rotated", 0) == 0


def test_a_loader_that_took_truncated_files_is_followed(export_mine, photos, tmp_path):
    exported = export_mine(truncated=True, out=tmp_path / "cut", forms="onnx")
    stream = io.BytesIO()
    photos[1].save(stream, "JPEG")

    model = runtime.load(exported.artifact)

    assert exported.manifest.inputs[0].truncated
    assert {"JPEG that ends too early", "PNG that ends too early"} <= set(exported.parity.inputs)
    assert any("those that end too early as far as they go" in sentence for sentence in exported.parity.not_proven)
    with pytest.warns(UserWarning, match="the file ends too early"):
        assert model.predict(stream.getvalue()[:-3000]).label == model.predict(stream.getvalue()).label
    assert model.warning_counts == {"truncated": 1}


def test_bands_that_end_too_early_are_never_taken(export_mine):
    with pytest.raises(exporter.PreprocessingError, match=r"--truncated: is for photos, and --pixel-format uint8\[3\]"):
        export_mine(truncated=True, pixel_format="uint8[3]")


def test_a_photo_of_another_kind_still_decodes_as_it_did_in_training(exported):
    """Palette, alpha and grayscale go through the same convert("RGB") on both sides."""
    model = runtime.load(exported.artifact)
    photo = Image.open(Path(__file__).parents[1] / "data" / "coffee.jpg")
    for mode in ("P", "L", "RGBA"):
        stream = io.BytesIO()
        photo.convert(mode).save(stream, "PNG")
        expected = model.predict(Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
        assert model.predict(stream.getvalue()).probability == expected.probability


def test_what_a_script_did_not_do_is_not_proven(export_mine, net_file, tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(f"open('no-such-data.csv')\n{net_file.read_text()}\n")

    evidence = export_mine(arch=f"{script}:MyCNN", preprocess=f"{script}:transform").parity

    (sentence,) = [sentence for sentence in evidence.not_proven if "train.py" in sentence]
    assert "behind imports, definitions and assignments: line 1 failed: FileNotFoundError" in sentence

"""The main job: an artifact equal to the eager model, byte for byte the same each time, or nothing at all."""

import importlib.util
import io
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

import exporter
import runtime
from exporter import preprocessing, workflow
from exporter.architectures import families
from exporter.workflow import Exported
from runtime.manifest import MANIFEST_NAME


@pytest.fixture
def export_mine(checkpoint_file, net_file, labels_file, tmp_path):
    """Export the tiny network into ``tmp_path``, with what a test wants different."""

    def run(**changes: object) -> Exported:
        options: dict[str, object] = {
            "checkpoint": checkpoint_file,
            "architecture": f"{net_file}:MyCNN",
            "arguments": {"num_classes": 4},
            "preprocess": f"{net_file}:transform",
            "labels": labels_file,
            "out": tmp_path / "mine",
        }
        return exporter.export(**{**options, **changes})

    return run


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_artifact_is_complete_and_its_manifest_tells_what_was_found(exported, checkpoint_file):
    assert set(everything_in(exported.artifact)) == {
        MANIFEST_NAME,
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
    assert set(manifest.files) == set(everything_in(exported.artifact)) - {MANIFEST_NAME}
    assert manifest.source.architecture.endswith("net.py:MyCNN")
    assert manifest.source.arguments == {"num_classes": 4}
    assert manifest.source.onnx_exporter == "dynamo"
    assert manifest.outputs[0].shape == ("batch", 4)
    assert manifest.tools["torch"] == torch.__version__


def test_the_proof_covers_every_path_and_stage(exported):
    report = exported.parity

    assert report.verdict == "passed"
    assert {(row.path, row.stage) for row in report.rows} == {
        (path, stage)
        for path in ("model.onnx", "runtime", "model.torchscript")
        for stage in ("geometry", "arithmetic", "network", "end to end")
    }
    assert report.batch_sizes == (1, 2, 3, 7)
    assert report.signal > 0.5
    assert report.summary().label_agreement == 1.0
    by_name = {(row.path, row.stage): row for row in report.rows}
    assert by_name["runtime", "geometry"].pixel_difference == 0
    assert by_name["runtime", "end to end"].value_difference < 1e-5


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
    from exporter.to_torchscript import load_torchscript

    module = load_torchscript(exported.artifact / "model.torchscript")
    model = runtime.load(exported.artifact)
    for photo in (photos[0], photos[3].resize((90, 333)), photos[1].resize((7, 5))):
        image = np.asarray(photo)
        with torch.no_grad():
            scores = module(torch.from_numpy(image.copy())[None]).numpy()[0]
        assert scores == pytest.approx(model.run({"image": image[None]})["probabilities"][0], abs=0.02)


# --- faults, each of which somebody has shipped -----------------------------------------------------------------------


def plant_wrong_mean(monkeypatch):
    """The graph is written with ImageNet's mean, the transform has another."""
    original = workflow.assemble

    def assemble(converted, preprocessing, **options):
        to_float, normalize = preprocessing.arithmetic
        wrong = msgspec.structs.replace(normalize, mean=(0.485, 0.456, 0.406))
        changed = msgspec.structs.replace(preprocessing, arithmetic=(to_float, wrong))
        return original(converted, changed, **options)

    monkeypatch.setattr(workflow, "assemble", assemble)


def plant_swapped_channels(monkeypatch):
    """The decoder gives BGR."""
    from runtime import decode

    original = decode._load

    def load(image, spec, subject):
        red, green, blue = original(image, spec, subject).image.split()
        return decode.Decoded(image=Image.merge("RGB", (blue, green, red)), turned=False)

    monkeypatch.setattr(decode, "_load", load)


def plant_floor_crop(monkeypatch):
    """The crop starts at the floor of the half, as in most hand-written loops."""
    from runtime import geometry

    monkeypatch.setattr(geometry, "crop_origin", lambda size, crop: (size - crop) // 2)


def plant_train_mode(monkeypatch):
    """Somebody forgot eval(): batch statistics and dropout go into the trace; torch.onnx itself calls eval()."""
    original = workflow.trace
    monkeypatch.setattr(workflow, "trace", lambda network, example: original(network.train(), example))


def plant_missing_softmax(monkeypatch):
    original = workflow.assemble
    monkeypatch.setattr(
        workflow, "assemble", lambda *given, **options: original(*given, **{**options, "activation": "none"})
    )


def plant_other_weights(monkeypatch):
    """One layer from another epoch."""
    original = workflow.to_onnx

    def to_onnx(network, example):
        with torch.no_grad():
            network.classifier.weight[0] *= 1.02
        return original(network, example)

    monkeypatch.setattr(workflow, "to_onnx", to_onnx)


def plant_nearest_resize(monkeypatch):
    from runtime import geometry

    monkeypatch.setitem(geometry._FILTERS, "bilinear", Image.Resampling.NEAREST)


@pytest.mark.parametrize(
    ("plant", "stage"),
    [
        (plant_wrong_mean, "model.onnx, stage 'arithmetic'"),
        (plant_swapped_channels, "stage 'geometry'"),
        (plant_floor_crop, "runtime, stage 'geometry'"),
        (plant_nearest_resize, "runtime, stage 'geometry'"),
        (plant_train_mode, "stage 'network'"),
        (plant_missing_softmax, "stage 'network'"),
        (plant_other_weights, "stage 'network'"),
    ],
)
def test_a_planted_fault_is_caught_its_stage_named_and_nothing_written(
    plant, stage, export_mine, monkeypatch, tmp_path
):
    plant(monkeypatch)

    with pytest.raises(exporter.ParityError) as caught:
        export_mine()

    assert "not equal to the eager model" in str(caught.value)
    assert stage in str(caught.value)
    assert caught.value.report.verdict == "failed"
    assert list(tmp_path.iterdir()) == []


def test_outputs_without_signal_are_inconclusive_and_not_passed(export_mine, tmp_path, state_dict):
    """Any comparison would pass: every image gets the same scores."""
    flat = {key: tensor * (1e-9 if key == "classifier.weight" else 1) for key, tensor in state_dict.items()}
    torch.save(flat, tmp_path / "flat.pth")

    with pytest.raises(exporter.ParityError, match="inconclusive: the eager model gives every image the same scores"):
        export_mine(checkpoint=tmp_path / "flat.pth")
    assert not (tmp_path / "mine").exists()


def test_a_network_that_is_not_a_number_is_not_compared(export_mine, tmp_path, state_dict):
    torch.save({**state_dict, "classifier.bias": torch.full((4,), float("nan"))}, tmp_path / "nan.pth")

    with pytest.raises(exporter.ParityError, match="the eager model itself gives NaN"):
        export_mine(checkpoint=tmp_path / "nan.pth")


# --- defaults, said aloud ---------------------------------------------------------------------------------------------


class Heard:
    def __init__(self) -> None:
        self.findings: dict[str, str] = {}

    def started(self, name: str) -> None:
        assert name not in self.findings

    def finished(self, step: workflow.Step) -> None:
        self.findings[step.name] = step.finding


@pytest.mark.slow
def test_a_torchvision_architecture_brings_its_transform_and_labels_and_says_so(photos, tmp_path):
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
def test_timm_brings_its_transform_and_says_so(photos, tmp_path):
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
def test_a_hugging_face_folder_is_exported_with_its_processor(photos, tmp_path):
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

    assert exported.manifest.preprocessing.geometry[0].implementation == "torch"
    with torch.no_grad():
        pixels = processor(photos[1], return_tensors="pt")["pixel_values"]
        expected = network(pixels).logits.softmax(dim=-1)[0]
    assert runtime.load(exported.artifact).predict(photos[1]).probability == pytest.approx(
        float(expected.max()), abs=1e-5
    )


def give_signal(network: nn.Module, images: torch.Tensor) -> None:
    """Make a random network's outputs vary: true batch statistics, then a centred and scaled last layer."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.momentum = None
    crops = torch.cat([images, images.flip(2), images.flip(3), images.roll(60, 3)])
    with torch.no_grad():
        network.train()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        network(crops)
        network.eval()
        logits = network(crops)
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        scale = 2.5 / logits.std(dim=0).mean()
        last.bias.sub_(logits.mean(dim=0)).mul_(scale)
        last.weight.mul_(scale)


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
    plain, soft = export_mine(), export_mine(architecture=f"{source}:Soft", out=tmp_path / "soft")
    photo = Path(__file__).parents[1] / "data" / "cat.jpg"

    answers = [runtime.load(done.artifact).predict(photo).probability for done in (plain, soft)]
    assert answers[0] == pytest.approx(answers[1], abs=1e-6)


def test_the_users_own_photos_are_what_is_compared(export_mine, tmp_path, photos):
    samples = tmp_path / "samples"
    samples.mkdir()
    photos[0].save(samples / "a.png")
    photos[1].save(samples / "b.webp")
    (samples / "notes.txt").write_text("not a photo")

    assert export_mine(samples=samples).parity.inputs[:2] == ("a.png", "b.webp")
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
    assert model.rotated == 0


# --- bad input, and nothing left behind -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("cat\ncoffee\nrocket\n", r"wrong number of labels: expected 4, .* got 3"),
        ("cat\n\ncoffee\nrocket\nastronaut\n", "line 2 is empty"),
    ],
)
def test_a_label_file_that_does_not_fit_is_refused(export_mine, tmp_path, content, reason):
    labels = tmp_path / "names.txt"
    labels.write_text(content)

    with pytest.raises(exporter.ExportError, match=reason):
        export_mine(labels=labels)
    assert not (tmp_path / "mine").exists()


def test_labels_may_come_from_windows(export_mine, tmp_path):
    labels = tmp_path / "names.txt"
    labels.write_bytes(b"\xef\xbb\xbfcat\r\ncoffee\r\nrocket\r\nastronaut\r\n\r\n")

    assert runtime.load(export_mine(labels=labels).artifact).labels == ("cat", "coffee", "rocket", "astronaut")


def test_an_architecture_without_a_known_transform_asks_for_it(export_mine):
    with pytest.raises(exporter.PreprocessingError, match=r"Pass the one that you evaluate with: --preprocess"):
        export_mine(preprocess=None)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        ("return (x, x)", r"expected one output \[batch, classes\], got tuple"),
        ("return super().forward(x)[0]", r"expected one output \[batch, classes\], got \[4\]"),
        ("return super().forward(x[:, :1])", r"a forward pass on \[1, 3, 32, 32\] failed"),
    ],
)
def test_what_is_no_classifier_is_told(export_mine, tmp_path, net_file, forward, reason):
    source = tmp_path / "odd.py"
    source.write_text(
        f"import importlib.util as u\nspec = u.spec_from_file_location('net', {str(net_file)!r})\n"
        "net = u.module_from_spec(spec); spec.loader.exec_module(net)\n"
        f"class Odd(net.MyCNN):\n    def forward(self, x): {forward}\n"
    )
    with pytest.raises(exporter.ConversionError, match=reason):
        export_mine(architecture=f"{source}:Odd")


def test_an_existing_folder_is_kept_unless_forced(export_mine, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")

    with pytest.raises(exporter.ExportError, match=r"exists already\. Pass --force"):
        export_mine()
    with pytest.raises(exporter.ExportError, match="--force replaces artifacts only"):
        export_mine(force=True)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_force_replaces_an_artifact_and_a_failure_keeps_the_old_one(export_mine, exported, tmp_path, monkeypatch):
    out = tmp_path / "mine"
    shutil.copytree(exported.artifact, out)
    (out / "labels.txt").write_text("old\n")
    before = everything_in(out)

    with monkeypatch.context() as fault:
        plant_wrong_mean(fault)
        with pytest.raises(exporter.ParityError):
            export_mine(force=True)
    assert everything_in(out) == before

    export_mine(force=True)
    assert everything_in(out) == everything_in(exported.artifact)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("limit", [3_000, 10_000, 30_000])
def test_a_full_disk_leaves_nothing_behind(checkpoint_file, net_file, labels_file, tmp_path, limit):
    """A file-size limit makes the kernel refuse the write in the middle of a file, as a full disk does."""
    script = (
        "import resource, sys, exporter\n"
        "import exporter.workflow\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"exporter.export({str(checkpoint_file)!r}, {f'{net_file}:MyCNN'!r}, arguments={{'num_classes': 4}},\n"
        f"    preprocess={f'{net_file}:transform'!r}, labels={str(labels_file)!r}, out='deep/er/mine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )

    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("step", ["TorchScript", "parity"])
def test_an_interruption_leaves_nothing_behind(checkpoint_file, net_file, labels_file, tmp_path, signal_name, step):
    """The signal comes when the step begins, whatever the machine's speed."""
    script = (
        "import os, signal, sys\n"
        "from exporter import cli, steps\n"
        "started = cli._Terminal.started\n"
        "def interrupt(self, name):\n"
        f"    if name == {step!r}: os.kill(os.getpid(), signal.{signal_name})\n"
        "    started(self, name)\n"
        "cli._Terminal.started = interrupt\n"
        f"sys.argv[1:] = [{str(checkpoint_file)!r}, '--arch', {f'{net_file}:MyCNN'!r}, '--arch-arg', 'num_classes=4',\n"
        f"    '--preprocess', {f'{net_file}:transform'!r}, '--labels', {str(labels_file)!r}]\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode in {130, 143}, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_photo_of_another_kind_still_decodes_as_it_did_in_training(exported):
    """Palette, alpha and grayscale go through the same convert("RGB") on both sides."""
    model = runtime.load(exported.artifact)
    photo = Image.open(Path(__file__).parents[1] / "data" / "coffee.jpg")
    for mode in ("P", "L", "RGBA"):
        stream = io.BytesIO()
        photo.convert(mode).save(stream, "PNG")
        expected = model.predict(Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
        assert model.predict(stream.getvalue()).probability == expected.probability

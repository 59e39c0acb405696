"""Photos to label maps, and pictures of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

import exporter
import runtime
from exporter.endings import Wanted, palette

TRANSFORM = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])


class Bright(nn.Module):
    """What torchvision's segmentation networks return: a dictionary, with an auxiliary output beside the main one."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.line.weight.copy_(torch.tensor([[-9.0, 0, 0], [9, -9, 0], [0, 9, 0]])[:, :, None, None])
            self.line.bias.copy_(torch.tensor([4.0, 0, -4]))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.line(x), "aux": x}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    torch.save(Bright().state_dict(), folder / "model.pth")
    (folder / "names.txt").write_text("dark\nred\nbright\n")
    exporter.export(
        folder / "model.pth",
        Bright,
        preprocess=TRANSFORM,
        labels=folder / "names.txt",
        wanted=Wanted(task="segment"),
        out=folder / "artifact",
    )
    return folder / "artifact"


def test_the_map_is_eagers_place_by_place(artifact, photos):
    with torch.no_grad():
        expected = Bright()(TRANSFORM(photos[0])[None])["out"].softmax(1)[0].numpy()

    model = runtime.load(artifact)
    answer = model.predict(photos[0])

    assert (answer.label_map == expected.argmax(0)).mean() == 1.0
    assert answer.label_map.shape == (32, 32)
    assert set(answer.shares) == {"dark", "red", "bright"}
    assert model.manifest.outputs[0].shape[:2] == ("batch", 3)


def test_predict_writes_a_picture_of_each_map(artifact, photos, tmp_path):
    (tmp_path / "in").mkdir()
    photos[0].save(tmp_path / "in" / "cat.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    command = [str(Path(sys.executable).parent / "truecopy"), "predict", str(artifact), str(tmp_path / "in")]

    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cat.png"]
    picture = np.asarray(Image.open(tmp_path / "out" / "cat.png"))
    model = runtime.load(artifact)
    colours = np.array(palette(3))[model.predict(photos[0]).label_map]
    expected = (model.prepare(photos[0]) * 0.5 + colours * 0.5).round()
    assert np.abs(picture - expected).max() <= 1


def test_only_maps_have_pictures(exported, tmp_path):
    command = [str(Path(sys.executable).parent / "truecopy"), "predict", str(exported.artifact), "x.jpg"]

    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 1
    assert "is for label maps: expected a task of segment, got classify" in done.stderr

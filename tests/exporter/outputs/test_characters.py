"""A fixed number of characters, such as a plate's or a captcha's: a string per photo."""

import json

import pytest
import torch
from PIL import Image
from support.commands import truecopy
from torch import Tensor, nn
from torchvision import transforms

import exporter
import runtime
from exporter.recheck import recheck_artifact
from runtime.verify import verify

CHARACTERS = "0123456789AB"
TRANSFORM = transforms.Compose([transforms.Resize((16, 32)), transforms.ToTensor()])


class Plate(nn.Module):
    """Four positions, each with a logit for every character."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3 * 4, 4 * len(CHARACTERS))
        with torch.no_grad():
            self.line.weight.mul_(9)

    def forward(self, x: Tensor) -> Tensor:
        columns = nn.functional.adaptive_avg_pool2d(x, (1, 4)).flatten(1)
        return self.line(columns).reshape(-1, 4, len(CHARACTERS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plates")
    (folder / "characters.txt").write_text(CHARACTERS + "\n")
    return folder


@pytest.fixture(scope="module")
def network(folder):
    torch.manual_seed(0)
    network = Plate()
    torch.save(network.state_dict(), folder / "plate.pth")
    return network


@pytest.fixture(scope="module")
def exported(folder, network):
    return exporter.export(
        folder / "plate.pth",
        network,
        preprocess=TRANSFORM,
        task="tokens",
        labels=folder / "characters.txt",
        out=folder / "plate",
    )


def test_a_photo_has_a_string(exported, network, folder):
    photo = Image.effect_mandelbrot((90, 40), (-2, -1, 1, 1), 20).convert("RGB")
    photo.save(folder / "photo.png")
    with torch.no_grad():
        best = network(TRANSFORM(photo)[None])[0].argmax(1).tolist()

    with runtime.load(exported.artifact, device="cpu") as model:
        result = model.predict(folder / "photo.png")
    row = json.loads(truecopy("predict", exported.artifact, folder / "photo.png", "--format", "jsonl").stdout)

    assert result.text == row["text"] == "".join(CHARACTERS[index] for index in best)
    assert row["words"] == list(result.text)
    assert str(result).endswith(f": {result.text}")


def test_it_is_proven_on_every_path_and_again(exported, network, folder):
    options = exporter.ExportOptions(
        checkpoint=folder / "plate.pth", arch=network, preprocess=TRANSFORM, labels=folder / "characters.txt"
    )

    assert verify(exported.artifact).passed
    assert {row.path for row in exported.parity.rows} == {"model.onnx", "runtime", "model.torchscript"}
    assert recheck_artifact(exported.artifact, options, pixels=False).evidence.verdict == "passed"


def test_a_classifier_it_is_not_and_the_refusal_names_the_task(network, folder, tmp_path):
    with pytest.raises(exporter.ConversionError, match="Pass --task tokens for the likeliest class at each position"):
        exporter.export(folder / "plate.pth", network, preprocess=TRANSFORM, out=tmp_path / "classes")


def test_a_vocabulary_of_words_has_no_string():
    from runtime.manifest import Tokens
    from runtime.results import interpret

    result = interpret(Tokens(), torch.tensor([1, 0]).numpy(), ("cat", "b"), name="x", top_k=1, threshold=None)

    assert result.to_dict() == {"input": "x", "tokens": [1, 0], "words": ["b", "cat"]}

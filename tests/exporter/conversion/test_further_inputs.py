"""A forward that takes more than a photo or a row is refused with the command that describes its inputs."""

import re

import pytest
import torch
from torch import Tensor, nn
from torchvision import transforms

import exporter
import runtime
from exporter.conversion.further_inputs import describe_further


class Siamese(nn.Module):
    """Two photos: the logit of whether they show the same."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return 30 * self.line((left.mean((2, 3)) - right.mean((2, 3))).abs()) - 1


class PhotoAndRow(nn.Module):
    """A photo and four numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3 + 4, 2)

    def forward(self, image: Tensor, row: Tensor) -> Tensor:
        return self.line(torch.cat([image.mean((2, 3)), row], 1))


class Categories(nn.Module):
    """Numbers of two categories, and two scaled numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(4, 3), nn.Embedding(3, 2)])
        self.line = nn.Linear(7, 1)

    def forward(self, x_cat: Tensor, x_cont: Tensor) -> Tensor:
        return self.line(torch.cat([*(e(x_cat[:, i]) for i, e in enumerate(self.embeddings)), x_cont], 1))


PHOTO, ROW = torch.zeros(1, 3, 32, 32), torch.zeros(1, 4)


@pytest.mark.parametrize(
    ("network", "given", "described"),
    [
        (Siamese(), PHOTO, ["left=float32[batch,3,32,32]", "right=float32[batch,3,32,32]"]),
        (PhotoAndRow(), PHOTO, ["image=float32[batch,3,32,32]", "row=float32[batch,4]"]),
        (Categories(), ROW, ["x_cat=int64[batch,2]", "x_cont=float32[batch,2]"]),
        (nn.CosineSimilarity(), torch.zeros(1, 5), ["x1=float32[batch,5]", "x2=float32[batch,5]"]),
    ],
)
def test_each_input_is_described_by_running_the_forward(network, given, described):
    text = describe_further(network, {"x": given})

    assert re.findall(r"--input '([^']+)'", text) == described
    stated = ["resize=32x32" if "3,32,32" in part else f"input={part.partition('=')[2]}" for part in described]
    assert re.findall(r"--part '?\w+\.([^ ']+?)'?[ .]", text) == stated


def test_what_cannot_be_found_is_left_to_the_user():
    class Odd(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            raise RuntimeError("never")

    text = describe_further(Odd(), {"x": ROW})

    assert "with your own lengths for '...'" in text
    assert "--input 'y=float32[batch,...]'" in text


def test_the_forward_is_searched_once_and_not_for_every_case():
    class Counting(nn.Module):
        calls = 0

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            Counting.calls += 1
            return x + y

    network = Counting()
    texts = {describe_further(network, {"x": ROW}) for _ in range(3)}

    assert len(texts) == 1
    assert Counting.calls == 1


@pytest.mark.parametrize("network", [nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 2))])
def test_a_forward_of_one_input_has_no_further_one(network):
    assert describe_further(network, {"x": ROW}) == ""


def test_two_photos_are_exported_by_the_command_of_the_refusal(tmp_path):
    torch.manual_seed(0)
    network = Siamese()
    torch.save(network.state_dict(), tmp_path / "siamese.pth")
    photo = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])

    with pytest.raises(exporter.ConversionError, match="takes 2 inputs, 'left' and 'right'") as caught:
        exporter.export(tmp_path / "siamese.pth", network, preprocess=photo, task="binary", out=tmp_path / "out")
    inputs = re.findall(r"--input '([^']+)'", str(caught.value))
    exported = exporter.export(
        tmp_path / "siamese.pth", network, inputs=inputs, task="binary", out=tmp_path / "out", forms="onnx"
    )

    left, right = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = network(left[None], right[None]).sigmoid().item()
    with runtime.load(exported.artifact, device="cpu") as model:
        top = model.predict({"left": left.numpy(), "right": right.numpy()}).top
    assert {scored.index: scored.probability for scored in top}[1] == pytest.approx(expected, abs=1e-5)


class OfBatch(nn.Module):
    """It takes what a data loader gives: a dictionary."""

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["image"] + batch["row"]


def test_a_forward_that_takes_a_dictionary_of_several_is_described_by_parts():
    text = describe_further(OfBatch(), {"x": ROW})

    assert text.startswith("Its forward takes a dictionary of 'image' and 'row': state each as a part")
    assert "--part image=FILE.py:TRANSFORM --part row=FILE.py:TRANSFORM" in text

"""Gray images, arrays with any number of bands of 8 or 16 bits, and transforms that leave the size open."""

import io

import numpy as np
import pytest
import tifffile
import timm
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms._presets import SemanticSegmentation

import exporter
import runtime


class Net(nn.Module):
    """Convolutions that average over whatever size there is."""

    def __init__(self, channels: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()
        )
        self.head = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture
def export(tmp_path):
    def run(channels, transform, **options):
        torch.manual_seed(3)
        network = Net(channels)
        network.head.weight.data *= 10
        torch.save(network.state_dict(), tmp_path / "net.pth")
        done = exporter.export(
            tmp_path / "net.pth",
            Net,
            arguments={"channels": channels},
            preprocess=transform,
            out=tmp_path / "artifact",
            **options,
        )
        assert done.parity.verdict == "passed"
        return network.eval(), runtime.load(done.artifact, device="cpu")

    return run


def eager(network, tensor):
    with torch.no_grad():
        return network(tensor[np.newaxis]).softmax(dim=1)[0].numpy()


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(stream, kind)  # without the photo's EXIF
    return stream.getvalue()


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_a_network_of_one_channel_gets_gray_images(export, photos):
    transform = transforms.Compose(
        [transforms.Resize((28, 28)), transforms.ToTensor(), transforms.Normalize(0.13, 0.3)]
    )
    network, model = export(1, transform)

    assert model.manifest.inputs[0].mode == "L"
    for photo in (photos[0], photos[0].convert("L"), photos[0].convert("RGBA")):
        expected = eager(network, transform(photo.convert("L")))
        assert model.predict(encoded(photo)).probability == pytest.approx(expected.max(), abs=1e-5)
    gray = np.asarray(photos[0].convert("L"))
    assert model.predict(gray) == model.predict(gray[:, :, np.newaxis])


def test_a_transform_that_makes_gray_itself_gets_rgb(export):
    transform = transforms.Compose([transforms.Grayscale(), transforms.Resize((28, 28)), transforms.ToTensor()])
    _, model = export(1, transform)

    assert model.manifest.inputs[0].mode == "RGB"


def bands(channels, dtype, height=50, width=70):
    largest = np.iinfo(dtype).max
    y, x = np.mgrid[0:height, 0:width]
    planes = [(np.sin(x / (3 + k)) + np.cos(y / (5 + k))) / 4 + 0.5 for k in range(channels)]
    return (np.stack(planes, axis=-1) * largest).astype(dtype)


def test_five_bands_are_resized_as_torch_does(export):
    transform = v2.Compose([v2.ToImage(), v2.Resize((32, 40)), v2.ToDtype(torch.float32, scale=True)])
    network, model = export(5, transform, pixel_format="uint8[5]")
    array = bands(5, np.uint8)
    expected = eager(network, transform(array))

    stream = io.BytesIO()
    tifffile.imwrite(stream, array.transpose(2, 0, 1), planarconfig="separate", photometric="minisblack")
    for source in (array, saved(array), saved(array.transpose(2, 0, 1)), stream.getvalue()):
        assert model.predict(source).probability == pytest.approx(expected.max(), abs=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_sixteen_bits_are_kept(export, channels):
    transform = v2.Compose([v2.ToImage(), v2.CenterCrop(40), v2.Pad(3, fill=0), v2.ToDtype(torch.float32, scale=True)])
    network, model = export(channels, transform, pixel_format=f"uint16[{channels}]")
    array = bands(channels, np.uint16)
    expected = eager(network, transform(array))

    stream = io.BytesIO()
    tifffile.imwrite(stream, array if channels > 1 else array[:, :, 0], photometric="minisblack")
    sources = [array, saved(array), stream.getvalue()]
    if channels == 1:
        sources.append(encoded(Image.fromarray(array[:, :, 0])))
    for source in sources:
        assert model.predict(source).probability == pytest.approx(expected.max(), abs=1e-5)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (bands(3, np.uint8), r"expected uint8 \[height, width, 5\], got uint8 \[50, 70, 3\]"),
        (bands(5, np.uint16), r"got uint16"),
        (saved(bands(5, np.uint8))[:-9], "damaged: "),
        (b"\xff\xd8\xff not bands", "expected an .npy, TIFF or PNG file"),
        (saved(np.array([{}], dtype=object)), "damaged"),
        (b"II*\0 broken", "damaged"),
    ],
)
def test_what_are_no_such_bands_is_refused(export, source, reason):
    transform = v2.Compose([v2.ToImage(), v2.CenterCrop(40), v2.ToDtype(torch.float32, scale=True)])
    _, model = export(5, transform, pixel_format="uint8[5]")

    with pytest.raises(runtime.InputError, match=reason):
        model.predict(source)


def test_a_giant_array_is_refused_by_its_header(export):
    transform = v2.Compose([v2.ToImage(), v2.CenterCrop(40), v2.ToDtype(torch.float32, scale=True)])
    _, model = export(5, transform, pixel_format="uint8[5]")
    header = saved(np.zeros((1, 1, 5), np.uint8)).replace(b"(1, 1, 5), }          ", b"(99999, 99999, 5), }  ")

    with pytest.raises(runtime.InputError, match="too large"):
        model.predict(header)


@pytest.mark.parametrize(
    ("steps", "mode", "reason"),
    [
        ([v2.Resize(9), v2.ToImage()], "uint8[4]", r"expected v2\.ToImage before it"),
        ([transforms.PILToTensor()], "uint8[4]", r"expected v2\.ToImage, which takes arrays"),
        ([v2.ToImage(), v2.Resize(9)], "uint16[4]", "resizes 16-bit pixels"),
        ([transforms.ToTensor()], "uint16[4]", "leaves 16-bit pixels as they are"),
        ([transforms.Grayscale(3)], "L", "Leave out --pixel-format"),
        ([transforms.ToTensor()], "CMYK", "expected RGB, L, or arrays such as"),
    ],
)
def test_what_does_not_fit_the_pixels_is_refused(export, steps, mode, reason):
    with pytest.raises(exporter.PreprocessingError, match=reason):
        export(4, v2.Compose(steps), pixel_format=mode)


@pytest.mark.parametrize(
    ("arch", "network", "options"),
    [
        ("squeezenet1_1", lambda: torchvision.models.squeezenet1_1(num_classes=3), {"pixel_format": "L"}),
        (
            "timm:mobilenetv3_small_050",
            lambda: timm.create_model("mobilenetv3_small_050", in_chans=1, num_classes=3),
            {"arguments": {"in_chans": 1}},
        ),
    ],
)
def test_a_shipped_transform_of_rgb_images_is_refused_for_gray_ones(arch, network, options, tmp_path):
    torch.save(network().state_dict(), tmp_path / "net.pth")

    with pytest.raises(exporter.PreprocessingError, match=r"expected 1 values, got a mean of 3.*--preprocess"):
        exporter.export(tmp_path / "net.pth", arch, out=tmp_path / "artifact", **options)


@pytest.mark.parametrize(
    "transform",
    [
        transforms.Compose([transforms.Resize(40), transforms.ToTensor()]),
        SemanticSegmentation(resize_size=40),
    ],
)
def test_a_transform_may_leave_the_size_open(export, photos, transform):
    network, model = export(3, transform)
    sizes = [photo.resize((90, 60)) for photo in photos] + [photo.resize((50, 80)) for photo in photos]

    assert model.manifest.inputs[0].preprocessing.height is None
    for photo, result in zip(sizes, model.predict(sizes), strict=True):
        assert result.probability == pytest.approx(eager(network, transform(photo)).max(), abs=1e-5)

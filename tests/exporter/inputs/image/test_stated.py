"""Any callable is a reference: options state its steps, and are held against what it gives."""

import io
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import exporter
from exporter.inputs.image.open import open_adapter
from exporter.options.export import ExportOptions
from exporter.parity.cases import Case
from runtime.manifest import ChannelOrder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STATED = {"resize": (20, 24), "resize_backend": "opencv", "mean": MEAN, "std": STD}
CAFFE = {"resize": (20, 24), "resize_backend": "opencv", "mean": (104, 117, 123), "std": (1, 1, 1)}


def prepare(rgb):
    scaled = cv2.resize(rgb, (24, 20)).astype(np.float32) / 255
    return torch.from_numpy(((scaled - MEAN) / STD).astype(np.float32).transpose(2, 0, 1))


def of_image(image):
    return prepare(np.asarray(image.convert("RGB")))


def of_rgb_array(array):
    return {"pixel_values": prepare(array)[None]}


def of_bgr_array(array):
    return prepare(cv2.cvtColor(array, cv2.COLOR_BGR2RGB))


def of_path(path):
    return prepare(cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB))


def of_bytes(data: bytes):
    return of_image(Image.open(io.BytesIO(data)))


class Named:
    """It takes its image by keyword and returns a dictionary, as albumentations does."""

    def __call__(self, *arguments, **named):
        if arguments:
            raise KeyError("You have to pass data as named arguments")
        return {"image": prepare(named["image"]).numpy().transpose(1, 2, 0)}


def caffe(image):
    bgr = cv2.resize(np.asarray(image)[:, :, ::-1], (24, 20)).astype(np.float32)
    return torch.from_numpy((bgr - np.float32([104, 117, 123])).transpose(2, 0, 1).copy())


def divided_caffe(image):
    return caffe(image) / 60


def of_named_order(bgr):
    return prepare(bgr)


def of_array(array):
    return prepare(array)


@pytest.fixture
def adapter_of():
    rebuilt = SimpleNamespace(network=torch.nn.Identity(), reference="net.py:Net", torchvision_name="")
    return lambda function, **options: open_adapter(
        ExportOptions.from_keywords("m.pth", "net.py:Net", preprocess=function, **options), rebuilt
    )


@pytest.mark.parametrize(
    ("function", "form", "options"),
    [
        (of_image, "PIL images", {}),
        (of_rgb_array, "RGB arrays", {}),
        (of_bgr_array, "BGR arrays", {}),
        (of_path, "paths of files", {"exif": True}),
        (of_bytes, "bytes of files", {}),
        (Named(), "RGB arrays", {}),
    ],
)
def test_a_callable_is_called_in_its_own_form_and_is_the_reference(adapter_of, function, form, options):
    adapter = adapter_of(function, **STATED, **options)

    assert f"called with {form}, is held against Resize 20 x 24 bilinear as OpenCV" in adapter.describe()
    case = next(case for case in adapter.cases() if case.name == "chelsea")
    prepared = adapter.prepare(case)
    expected = of_image(Image.open(io.BytesIO(case.data)))
    assert torch.equal(prepared.tensors["normalized"][0], expected)
    pixels = cv2.resize(prepared.decoded["image"][0], (24, 20))
    np.testing.assert_array_equal(prepared.arrays["pixels"][0], pixels)
    assert any(form in sentence or "decodes otherwise" in sentence for sentence in adapter.skipped_samples) or (
        form == "bytes of files"
    )


def test_channels_of_opencv_are_stated(adapter_of):
    adapter = adapter_of(caffe, **CAFFE, channels="bgr")

    (spec,) = adapter.inputs
    assert ChannelOrder(order=(2, 1, 0)) in spec.preprocessing.arithmetic
    prepared = adapter.prepare(Case(name="x", data=adapter.cases()[0].data))
    np.testing.assert_array_equal(prepared.arrays["pixels"][0], cv2.resize(prepared.decoded["image"][0], (24, 20)))


@pytest.mark.parametrize(
    ("function", "options", "reason"),
    [
        (caffe, CAFFE, r"gray levels\. Equal on one image are: .* --resize-backend opencv --channels bgr"),
        (of_image, {**STATED, "resize_backend": "pillow"}, "Equal on one image are: .* --resize-backend opencv"),
        (of_image, {**STATED, "mean": (0.485, 0.456, 0.407)}, "by up to 0.2[56] gray levels"),
        (of_image, {**STATED, "resize": (20, 20)}, r"expected its \[3, 20, 24\] .*, got \[3, 20, 20\]"),
        (of_path, STATED, "turns photos by their EXIF orientation.* Pass --exif"),
        (of_bytes, {**STATED, "exif": True}, "leaves photos as they are.* Leave out --exif"),
        (lambda _image: 1 / 0, STATED, "fails on an image of 427 x 640 in every form.*ZeroDivisionError"),
        (of_image, {**STATED, "pixel_format": "L"}, "expected RGB. Leave out --pixel-format"),
    ],
)
def test_what_is_not_equal_is_refused_with_what_would_be(adapter_of, function, options, reason):
    with pytest.raises(exporter.PreprocessingError) as refused:
        adapter_of(function, **options)
    assert re.search(reason, str(refused.value)), refused.value


@pytest.mark.parametrize("function", [of_image, of_path, of_bgr_array, Named(), caffe])
def test_the_refusal_of_what_cannot_be_read_names_options_that_are_equal(adapter_of, function):
    with pytest.raises(exporter.PreprocessingError) as refused:
        adapter_of(function)

    found = re.search(r"--preprocess \S+ (--resize 20x24 .*?)( --exif)? \(found by calling it with", str(refused.value))
    assert found is not None, refused.value
    texts = found[1].split()
    options = {flag[2:].replace("-", "_"): value for flag, value in zip(texts[::2], texts[1::2], strict=True)}
    assert adapter_of(function, **options, exif=found[2] is not None)


def area(image):
    resized = cv2.resize(np.asarray(image), (24, 20), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(resized / 255).permute(2, 0, 1)


def exact_then_crop(image):
    return torch.from_numpy(np.asarray(image.resize((72, 72), 2).crop((4, 4, 68, 68))) / 255).permute(2, 0, 1)


def stretch(image):
    return of_image(ImageOps.autocontrast(image))


def standardize(image):
    values = torch.from_numpy(np.asarray(image.resize((24, 20))) / 255).permute(2, 0, 1)
    return (values - values.mean()) / values.std()


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (divided_caffe, r"--mean 104,117,123 --std 60,60,60 --resize-backend opencv --channels bgr \(found"),
        (of_named_order, r"--resize-backend opencv --channels bgr \(found by calling it with BGR arrays\)"),
        (of_array, r"opencv \(found by calling it with RGB arrays; add --channels bgr if its loader gives it BGR arr"),
        (area, r"The nearest is off by .* gray levels on average .* in place of --preprocess: --resize 20x24"),
        (exact_then_crop, r"--preprocess exact_then_crop --resize 72x72 --crop 64x64 \(found"),
        (stretch, "divides by statistics of the image itself"),
        (standardize, r"divides by statistics of the image itself: name a Compose .* \(x.std\(\) \+ 1e-6"),
        (lambda image: of_image(image).flip(2), "Options state a resize, a crop and a normalization alone"),
        (lambda _image: 1 / 0, "Called with an image, it fails: ZeroDivisionError"),
    ],
)
def test_the_refusal_of_what_options_do_not_state_says_what_else_to_do(adapter_of, function, advice):
    with pytest.raises(exporter.PreprocessingError, match=advice):
        adapter_of(function)

"""A training transform is read exactly, or refused with the step's name and position."""

import re
import warnings

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2

import exporter
from exporter.inputs.image import TransformParts, read_preset, read_timm, read_transform, transform_of_parts
from runtime.manifest import CenterCrop, Normalize, Resize, ToFloat

BICUBIC, BILINEAR = InterpolationMode.BICUBIC, InterpolationMode.BILINEAR
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def compose(*steps: object) -> transforms.Compose:
    return transforms.Compose(list(steps))


def test_a_compose_becomes_the_manifests_steps():
    reading = read_transform(
        compose(
            transforms.Resize(40, interpolation=InterpolationMode.BICUBIC),
            transforms.CenterCrop((30, 32)),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        )
    )

    resize, crop = reading.steps.geometry
    assert isinstance(resize, Resize)
    assert (resize.size, resize.interpolation) == (40, "bicubic")
    assert crop == CenterCrop(height=30, width=32)
    assert reading.steps.arithmetic == (ToFloat(divisor=255.0), Normalize(mean=tuple(MEAN), std=tuple(STD)))
    assert (reading.steps.height, reading.steps.width) == (30, 32)


@pytest.mark.parametrize(("size", "expected"), [(40, 40), ([40], 40), ((40, 50), (40, 50))])
def test_a_size_is_the_short_side_or_a_pair(size, expected):
    reading = read_transform(compose(transforms.Resize(size), transforms.CenterCrop(32), transforms.ToTensor()))

    assert reading.steps.geometry[0].size == expected


def test_the_reference_stays_the_users_own(photos):
    own = compose(
        transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor(), transforms.Normalize(MEAN, STD)
    )
    reading = read_transform(own)

    assert reading.transform is own
    expected = own(photos[0]) * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert (torch.from_numpy(reading.pixels(photos[0]).copy()).permute(2, 0, 1) / 255 - expected).abs().max() < 1e-6


def test_a_preset_is_assumed_and_described():
    reading = read_preset("resnet18")

    assert reading.restated == "assumed, from ResNet18_Weights.IMAGENET1K_V1"
    assert reading.origin == "ResNet18_Weights.IMAGENET1K_V1"
    assert reading.describe() == (
        "Resize 256 bilinear antialias, CenterCrop 224, divide by 255, "
        "Normalize mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
    )


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_v2_s", "vit_b_16", "inception_v3"])
def test_a_presets_pixels_are_those_before_its_arithmetic(name, photos):
    reading = read_preset(name)
    normalize = reading.steps.arithmetic[1]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (normalize.mean, normalize.std))

    pixels = torch.from_numpy(reading.pixels(photos[0])).permute(2, 0, 1)

    assert ((pixels / 255 - mean) / std - reading.transform(photos[0])).abs().max() < 1e-5
    assert pixels.shape[1:] == (reading.steps.height, reading.steps.width)


def test_a_reference_to_a_compose_or_to_a_function_that_makes_one(tmp_path):
    source = tmp_path / "my_transforms.py"
    source.write_text(
        "from torchvision import transforms as T\n"
        "own = T.Compose([T.Resize((8, 9)), T.ToTensor()])\n"
        "def make(): return own\n"
        "def broken(): return 1 / 0\n"
    )
    assert read_transform(f"{source}:own").steps == read_transform(f"{source}:make").steps
    with pytest.raises(exporter.PreprocessingError, match="ZeroDivisionError"):
        read_transform(f"{source}:broken")


def test_version_2_on_tensors_reads_as_its_documentation_recommends():
    reading = read_transform(
        v2.Compose(
            [
                v2.ToImage(),
                v2.ToDtype(torch.uint8, scale=True),
                v2.Resize(40, antialias=True),
                v2.CenterCrop(32),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )
    )
    assert reading.steps.geometry[0].implementation == "torch"
    assert reading.steps.arithmetic == (ToFloat(divisor=255.0), Normalize(mean=tuple(MEAN), std=tuple(STD)))


def test_both_versions_and_nesting_read_alike():
    normalize = transforms.Normalize(MEAN, STD)
    flat = read_transform(compose(transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor(), normalize))
    nested = read_transform(
        compose(
            v2.RGB(),
            torch.nn.Sequential(v2.Resize(40), torch.nn.Identity(), v2.CenterCrop([32, 32])),
            v2.Compose([v2.PILToTensor(), transforms.ConvertImageDtype(torch.float32)]),
            v2.Normalize(MEAN, STD),
        )
    )
    assert nested.steps == flat.steps


@pytest.mark.parametrize("filter_number", [Image.Resampling.BICUBIC, 3, InterpolationMode.BICUBIC])
def test_pillows_own_filter_numbers_are_understood(filter_number):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision would rather have the enumeration
        resize = transforms.Resize((9, 9), filter_number)
    assert read_transform(compose(resize, transforms.ToTensor())).steps.geometry[0].interpolation == "bicubic"


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv3_small_100", "vit_tiny_patch16_224"])
def test_timms_pretrained_configuration(name, photos):
    reading = read_timm(name)
    normalize = reading.steps.arithmetic[1]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (normalize.mean, normalize.std))

    pixels = torch.from_numpy(reading.pixels(photos[0]).copy()).permute(2, 0, 1)

    assert ((pixels / 255 - mean) / std - reading.transform(photos[0])).abs().max() < 1e-5
    assert reading.restated == f"assumed, from timm:{name}"
    assert not read_transform(f"timm:{name}").restated
    with pytest.raises(exporter.PreprocessingError, match="timm knows no such architecture"):
        read_timm("resnet_fifty")


def test_stated_parts_are_a_compose():
    parts = TransformParts(resize=40, crop=(32, 30), mean=tuple(MEAN), std=tuple(STD), interpolation="lanczos")
    reading = read_transform(transform_of_parts(parts))

    assert reading.steps.geometry[0].interpolation == "lanczos"
    assert reading.steps.geometry[1] == CenterCrop(height=32, width=30)
    assert reading.steps.arithmetic == (ToFloat(divisor=255.0), Normalize(mean=tuple(MEAN), std=tuple(STD)))


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"mean": (0.5,)}, "--mean and --std: one is given without the other"),
        ({"crop": 30, "interpolation": "bicubic"}, "--interpolation bicubic: nothing to resize"),
        ({"crop": 30, "resize_backend": "torch"}, "--resize-backend torch: nothing to resize"),
        ({"resize": 30, "resize_backend": "opencv"}, "needs an exact size"),
        ({"resize": 30, "resize_backend": "letterbox", "interpolation": "nearest"}, "expected bilinear. Pass one"),
        ({"mean": (104.0, 117.0, 123.0), "std": (0.2, 0.2, 0.2)}, "of different units"),
        ({"mean": (0.5, 0.5, 0.5), "std": (58.0, 57.0, 57.0)}, "of different units"),
    ],
)
def test_stated_parts_that_contradict_each_other_are_refused(parts, problem):
    with pytest.raises(exporter.PreprocessingError, match=problem):
        transform_of_parts(TransformParts(**parts))


@pytest.mark.parametrize(
    ("mean", "std"), [((104.0, 117.0, 123.0), (1.0, 1.0, 1.0)), ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))]
)
@pytest.mark.parametrize("backend", ["pillow", "torch"])
def test_a_mean_in_gray_levels_is_taken_off_undivided_pixels(mean, std, backend, photos):
    reading = read_transform(
        transform_of_parts(TransformParts(resize=(9, 8), mean=mean, std=std, resize_backend=backend))
    )
    levels = torch.from_numpy(reading.pixels(photos[0]).copy()).permute(2, 0, 1)

    assert reading.steps.arithmetic == (ToFloat(divisor=1.0), Normalize(mean=mean, std=std))
    expected = (levels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert (reading.transform(photos[0]) - expected).abs().max() < 1e-5


def test_a_hugging_face_processor_with_steps_of_its_own_is_refused_by_name(tmp_path):
    """SigLIP 2's gives patches, as many as fit a budget."""
    from transformers import Siglip2ImageProcessor, ViTImageProcessor

    Siglip2ImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(exporter.PreprocessingError, match=r"'Siglip2ImageProcessor' makes 3 arrays .* type 'siglip'"):
        read_transform(str(tmp_path / "preprocessor_config.json"))
    ViTImageProcessor(resample=1).save_pretrained(tmp_path)
    with pytest.raises(exporter.PreprocessingError, match=r"2 \(bilinear\), 3 \(bicubic\), got 1"):
        read_transform(str(tmp_path / "preprocessor_config.json"))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(exporter.PreprocessingError, match="transformers cannot read it"):
        read_transform(str(tmp_path / "preprocessor_config.json"))
    with pytest.raises(exporter.PreprocessingError, match="no such file"):
        read_transform("nowhere/preprocessor_config.json")


class Wobble:
    def __call__(self, image: Image.Image) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([transforms.Resize(9), Wobble(), transforms.ToTensor()], r"step 2 of 3, 'Wobble': cannot be folded in"),
        ([transforms.Lambda(lambda x: x.rotate(180))], r"step 1 of 1, 'Lambda': cannot be folded in"),
        ([transforms.RandomResizedCrop(9), transforms.ToTensor()], r"'RandomResizedCrop': is training augmentation"),
        ([transforms.ColorJitter(), transforms.ToTensor()], "Pass the transform that you evaluate with"),
        ([transforms.FiveCrop(9), transforms.ToTensor()], "'FiveCrop': makes several images of one"),
        (
            [transforms.ToTensor(), transforms.Resize(9)],
            r"step 2 of 2, 'Resize': resizes floats: .* Put v2\.PILToTensor",
        ),
        ([transforms.ToTensor(), transforms.Pad(9)], r"step 2 of 2, 'Pad': comes after the image became floats"),
        (
            [transforms.ToTensor(), transforms.Normalize(MEAN, STD), transforms.CenterCrop(9)],
            r"step 3 of 3, 'CenterCrop': comes after the image became floats",
        ),
        ([transforms.Normalize(MEAN, STD), transforms.ToTensor()], r"'Normalize': comes before the image is floats"),
        ([transforms.Resize(9), transforms.CenterCrop(8)], "never becomes floats: expected ToTensor"),
        ([v2.ToImage(), v2.Resize(9, BICUBIC, antialias=False)], "got version 2 with bicubic and antialias=False"),
        ([transforms.PILToTensor(), transforms.Resize(9)], "resizes a tensor: expected v2.Resize with bilinear"),
        ([v2.ToImage(), v2.ToDtype(torch.float16, scale=True)], r"a conversion of a tensor to torch\.float32, got"),
        ([transforms.Resize(9), transforms.Compose([Wobble()]), transforms.ToTensor()], r"step 2\.1 of 3, 'Wobble'"),
        ([transforms.Pad(-1), transforms.ToTensor()], "pads by less than nothing"),
        ([transforms.Resize((9, 9)), transforms.ToTensor(), transforms.Normalize([0, 0], [1, 1])], "mean of 2"),
        ([transforms.Resize((9, 9)), transforms.ToTensor(), transforms.Normalize(MEAN, [1, 0, 1])], "divides by zero"),
    ],
)
def test_what_cannot_be_folded_is_named_with_its_position(steps, reason):
    with pytest.raises(exporter.PreprocessingError, match=reason):
        read_transform(compose(*steps))


@pytest.mark.parametrize("size", [(50, 40), (20, 90)])
def test_a_crop_behind_the_conversion_to_floats_is_one_of_pixels(size):
    behind = compose(transforms.Resize((30, 26)), v2.PILToTensor(), v2.ConvertImageDtype(), v2.CenterCrop(28))
    image = Image.effect_noise(size, 80).convert("RGB")

    read = read_transform(behind)

    assert (
        read.steps
        == read_transform(compose(transforms.Resize((30, 26)), v2.CenterCrop(28), transforms.ToTensor())).steps
    )
    assert np.array_equal(read.pixels(image), (behind(image) * 255).round().byte().permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("interpolation", "antialias"), [(BILINEAR, True), (BILINEAR, False), (BICUBIC, True)])
def test_what_the_refusal_of_resized_floats_asks_for_is_read_and_less_than_a_level_away(interpolation, antialias):
    floats = compose(transforms.ToTensor(), transforms.Resize((9, 12), interpolation, antialias=antialias))
    resize = v2.Resize((9, 12), interpolation, antialias=antialias)
    advised = compose(v2.PILToTensor(), resize, v2.ToDtype(torch.float32, scale=True))
    image = Image.effect_noise((50, 40), 80).convert("RGB")

    assert read_transform(advised).steps.geometry[0].implementation == "torch"
    assert (advised(image) - floats(image).clamp(0, 1)).abs().max() * 255 < 1.01


def test_a_subclass_may_do_anything_and_is_refused():
    class MyResize(transforms.Resize):
        pass

    with pytest.raises(exporter.PreprocessingError, match="'MyResize': cannot be folded in"):
        read_transform(compose(MyResize(9), transforms.ToTensor()))


@pytest.mark.parametrize(
    ("preprocess", "reason"),
    [
        ("transform", "expected 'FILE.py:NAME'"),
        ("nowhere.py:transform", "no such file"),
        ("torch:pi", "expected a torchvision.transforms.Compose, got builtins.float"),
        (torchvision.transforms.ToTensor(), "expected a torchvision.transforms.Compose"),
    ],
)
def test_what_is_no_transform_is_named(preprocess, reason):
    with pytest.raises(exporter.PreprocessingError, match=reason):
        read_transform(preprocess)


@pytest.mark.parametrize(
    "steps",
    [
        [transforms.Resize(9, max_size=20), transforms.ToTensor()],
        [transforms.Resize(9), transforms.ToTensor()],
        [transforms.ToTensor(), transforms.Normalize(MEAN, STD)],
    ],
)
def test_a_size_that_follows_from_the_image_is_left_open(steps):
    preprocessing = read_transform(transforms.Compose(steps)).steps

    assert (preprocessing.height, preprocessing.width, preprocessing.channels) == (None, None, 3)


SOURCE = """
import numpy as np
from torchvision import transforms as T

SMALL = [T.Resize((8, 8)), T.ToTensor()]
data_transforms = {"train": T.Compose([T.RandomCrop(8), T.ToTensor()]), "val": T.Compose(SMALL), "size": 8}


def get_transform(train, size=8):
    return T.Compose([T.RandomHorizontalFlip(), *SMALL] if train else [np.array, *SMALL[1:]])


class Data:
    def __init__(self):
        self.transform = T.Compose(SMALL)
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_transforms.py").write_text(SOURCE)
    return "own_transforms.py"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("data_transforms", r"""Name one of .*\["train"\]', '(own_transforms.py:data_transforms\["val"\])'\."""),
        ("get_transform", r"takes 'train' .* --preprocess '(own_transforms.py:get_transform\(train=False\))'"),
        ("Data.transform", r"What an instance alone has is named as '(own_transforms.py:Data\(\).transform)'"),
    ],
)
def test_what_holds_or_makes_a_transform_is_refused_with_the_transforms_own_name(source, name, remedy):
    with pytest.raises(exporter.PreprocessingError) as refused:
        read_transform(f"{source}:{name}")

    found = re.search(remedy, str(refused.value))
    assert found is not None, refused.value
    assert read_transform(found[1]).steps.arithmetic == (ToFloat(divisor=255.0),)

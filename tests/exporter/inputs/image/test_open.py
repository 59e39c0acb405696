"""Options that state one part of a transform change that part of the assumed one, and what is assumed is said."""

import io
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torchvision import transforms

import exporter
from exporter.inputs.image.open import open_adapter
from exporter.parity.cases import Case
from exporter.recipe import ExportOptions
from runtime.manifest import CenterCrop, Normalize, Resize, ToFloat

ASSUMED = "assumed, from ResNet18_Weights.IMAGENET1K_V1"
OF_RESNET18 = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.fixture
def adapter_of():
    """Return the image adapter of an export with some options, without its network."""
    networks = {"resnet18": torchvision.models.resnet18(num_classes=2)}

    def build(reference: str = "resnet18", **options: object):
        network = networks.get(reference, torch.nn.Identity())
        known = reference if reference in networks else ""
        rebuilt = SimpleNamespace(network=network, reference=reference, torchvision_name=known)
        return open_adapter(ExportOptions.from_keywords("m.pth", reference, **options), rebuilt)

    return build


def steps_of(adapter) -> tuple[object, ...]:
    (spec,) = adapter.inputs
    return (*spec.preprocessing.geometry, *spec.preprocessing.arithmetic)


@pytest.mark.parametrize(
    ("options", "changes", "changed"),
    [
        ({"interpolation": "bicubic"}, "--interpolation bicubic for bilinear", {"interpolation": "bicubic"}),
        ({"resize": 300}, "--resize 300 for 256", {"size": 300}),
        ({"crop": 200}, "--crop 200 for 224x224", {"crop": 200}),
        ({"resize_backend": "torch"}, "--resize-backend torch", {"implementation": "torch"}),
        (
            {"mean": (0.5, 0.5, 0.5)},
            "--mean 0.5,0.5,0.5 for 0.485,0.456,0.406",
            {"normalize": Normalize(mean=(0.5, 0.5, 0.5), std=OF_RESNET18.std)},
        ),
    ],
)
def test_an_option_changes_its_own_part_of_an_assumed_transform(adapter_of, options, changes, changed):
    adapter = adapter_of(**options)
    resize, crop, to_float, normalize = steps_of(adapter)

    assert (resize.size, resize.interpolation, resize.implementation) == (
        changed.get("size", 256),
        changed.get("interpolation", "bilinear"),
        changed.get("implementation", "pillow"),
    )
    size = changed.get("crop", 224)
    assert (crop, to_float) == (CenterCrop(height=size, width=size), ToFloat(divisor=255.0))
    assert normalize == changed.get("normalize", OF_RESNET18)
    assert adapter.describe().startswith(f"{ASSUMED}, {changes}: Resize ")
    assert adapter.assumptions == (
        f"the transform with training's own: {ASSUMED}, {changes}; --preprocess names another",
    )


def test_the_changed_reference_is_torchvisions_with_that_part(adapter_of, photos):
    adapter = adapter_of(interpolation="bicubic")
    encoded = io.BytesIO()
    photos[0].save(encoded, format="PNG")
    expected = transforms.Compose(
        [
            transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(OF_RESNET18.mean, OF_RESNET18.std),
        ]
    )

    (tensor,) = adapter.prepare(Case(name="photo", data=encoded.getvalue(), group="photos")).tensors.values()

    assert torch.equal(tensor[0], expected(photos[0]))


def test_an_exact_size_leaves_nothing_to_crop_and_says_so(adapter_of):
    adapter = adapter_of(resize="64x48")
    resize, *arithmetic = steps_of(adapter)

    assert isinstance(resize, Resize)
    assert resize.size == (64, 48)
    assert arithmetic == [ToFloat(divisor=255.0), OF_RESNET18]
    assert "--resize 64x48 for 256, no crop, as --resize 64x48 is exact: Resize 64 x 48" in adapter.describe()


@pytest.mark.parametrize(("options", "problem"), [({"resize": 200}, "--resize: the crop"), ({"crop": 300}, "--crop: ")])
def test_a_stated_size_that_would_frame_every_photo_is_refused(adapter_of, options, problem):
    with pytest.raises(exporter.PreprocessingError, match=rf"{problem}.*assumed from ResNet18_Weights.*Pass --\w+ as"):
        adapter_of(**options)


def test_nothing_stated_is_the_assumed_transform_and_everything_stated_says_so(adapter_of):
    assert adapter_of().assumptions == (f"the transform with training's own: {ASSUMED}; --preprocess names another",)
    own = adapter_of("net.py:Net", resize=40, crop=32)
    assert [type(step) for step in steps_of(own)] == [Resize, CenterCrop, ToFloat]
    assert own.describe().startswith("stated by options: Resize 40 bilinear")
    assert own.assumptions == ("the transform with training's own: stated by options; --preprocess names another",)


def test_the_users_own_object_assumes_nothing(adapter_of):
    own = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])

    assert adapter_of(preprocess=own).assumptions == ()


def test_a_gray_network_takes_stated_numbers_with_the_assumed_sizes(adapter_of):
    adapter = adapter_of(pixel_format="L", mean=0.5, std=0.25)

    assert [type(step) for step in steps_of(adapter)] == [Resize, CenterCrop, ToFloat, Normalize]
    assert steps_of(adapter)[-1] == Normalize(mean=(0.5,), std=(0.25,))

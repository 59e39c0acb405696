"""Options that state one part of a transform change that part of the assumed one, and what is assumed is said."""

import io
import re
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torchvision import transforms

import exporter
from exporter.architectures.registry import Logits
from exporter.inputs.image.open import open_adapter
from exporter.options.export import ExportOptions
from exporter.options.task import TaskOptions
from exporter.parity.cases import Case
from exporter.parity.reference import Reference
from runtime.manifest import CenterCrop, Normalize, Resize, ToFloat

LOADER = (
    "that the training loader opens images with Pillow, as RGB, not turned by their EXIF orientation: not compared "
    "with its code"
)
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
        LOADER,
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
    assert adapter_of().assumptions == (
        f"the transform with training's own: {ASSUMED}; --preprocess names another",
        LOADER,
    )
    own = adapter_of("net.py:Net", resize=40, crop=32)
    assert [type(step) for step in steps_of(own)] == [Resize, CenterCrop, ToFloat]
    assert own.describe().startswith("stated by options: Resize 40 bilinear")
    stated = "the transform with training's own: stated by options; --preprocess names another"
    assert own.assumptions == (stated, LOADER)


def test_the_users_own_object_assumes_nothing_but_how_images_are_opened(adapter_of):
    own = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor()])

    assert adapter_of(preprocess=own).assumptions == (LOADER,)
    assert adapter_of(preprocess=own, exif=True).assumptions == (LOADER.replace("not turned", "turned"),)


def test_a_gray_network_takes_stated_numbers_with_the_assumed_sizes(adapter_of):
    adapter = adapter_of(pixel_format="L", mean=0.5, std=0.25)

    assert [type(step) for step in steps_of(adapter)] == [Resize, CenterCrop, ToFloat, Normalize]
    assert steps_of(adapter)[-1] == Normalize(mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="module")
def vit():
    """A tiny image classifier of transformers, as truecopy calls it."""
    from transformers import ViTConfig, ViTForImageClassification

    def build(**settings: object) -> SimpleNamespace:
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        network = Logits(ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8, **settings)))
        return SimpleNamespace(network=network, reference="hf:vit", torchvision_name="")

    return build


@pytest.mark.parametrize(
    ("settings", "labels", "task"),
    [
        ({"id2label": {1: "tulip", 0: "daisy"}}, ("daisy", "tulip"), None),
        ({"num_labels": 3}, (), None),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, (), "multilabel"),
        ({"num_labels": 1}, (), "regress"),
    ],
)
def test_an_image_classifier_of_transformers_brings_its_labels_and_its_task(vit, settings, labels, task):
    own = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])
    rebuilt = vit(**settings)

    adapter = open_adapter(ExportOptions.from_keywords("m.pth", "hf:vit", preprocess=own), rebuilt)

    assert adapter.labels == labels
    assert adapter.assume_task(TaskOptions(), rebuilt.network, None).task == task
    assert adapter.assume_task(TaskOptions(task="raw"), rebuilt.network, None).task == "raw"


@pytest.mark.parametrize(
    ("settings", "stated", "steps"),
    [
        ({}, {}, (32, 32, "bilinear", "torch", None, 0.5)),
        ({}, {"interpolation": "bicubic"}, (32, 32, "bicubic", "torch", None, 0.5)),
        ({}, {"resize_backend": "pillow"}, (32, 32, "bilinear", "pillow", None, 0.5)),
        ({}, {"resize": 24, "crop": 16, "mean": (0.25, 0.25, 0.25)}, (24, None, "bilinear", "torch", 16, 0.25)),
        ({"image_mean": 0.5, "image_std": 0.2}, {}, (32, 32, "bilinear", "torch", None, 0.5)),
        (
            {"image_mean": 0.5, "image_std": 0.2},
            {"resize_backend": "pillow"},
            (32, 32, "bilinear", "pillow", None, 0.5),
        ),
    ],
)
def test_options_change_the_settings_of_a_hugging_face_processor(settings, stated, steps, vit, photos, tmp_path):
    from transformers import ViTImageProcessor

    ViTImageProcessor(size={"height": 32, "width": 32}, **settings).save_pretrained(tmp_path)
    options = ExportOptions.from_keywords("m.pth", f"hf:{tmp_path}", **stated)
    rebuilt = vit(num_labels=2)
    rebuilt.reference = f"hf:{tmp_path}"

    adapter = open_adapter(options, rebuilt)
    (spec,) = adapter.inputs
    resize, *crops = spec.preprocessing.geometry
    scale, normalize = spec.preprocessing.arithmetic

    size = resize.size if isinstance(resize.size, tuple) else (resize.size, None)
    assert (*size, resize.interpolation, resize.implementation) == steps[:4]
    assert [crop.height for crop in crops] == ([] if steps[4] is None else [steps[4]])
    levels = 255 / scale.divisor
    assert [mean / levels for mean in normalize.mean] == pytest.approx([steps[5]] * len(normalize.mean))
    prepared = adapter.prepare(adapter.cases()[0])
    arithmetic = adapter.torchscript_part().arithmetic(torch.from_numpy(prepared.arrays["pixels"]))
    assert (arithmetic - prepared.tensors["normalized"]).abs().max() < 1e-5


def test_images_that_the_transform_makes_nan_of_are_left_out_and_named(adapter_of):
    standardize = transforms.Lambda(lambda x: (x - x.mean()) / x.std())
    steps = [transforms.Resize((8, 8)), transforms.ToTensor(), standardize]
    adapter = adapter_of("net.py:Net", preprocess=transforms.Compose(steps))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))

    run = Reference(network, adapter.prepare).run(adapter.cases())

    assert 0 < len(run.cases) < len(adapter.cases())
    assert re.search(r"eager model does not take them, such as '.*': .* gives NaN or infinity for it", run.dropped[0])

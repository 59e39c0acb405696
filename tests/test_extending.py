"""What an extension touches, counted in the source.

That extensions from outside work is shown with a toy of each: ``tests/exporter/inputs/test_toy_kind.py``,
``tests/exporter/outputs/test_toy_task.py`` and ``tests/exporter/inputs/image/test_toy_step.py``. This file counts the
edits: which files of the packages name a kind, a task or a step, beside its own.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, get_args

import pytest
import typer
from typer.testing import CliRunner

from exporter import ExportOptions
from exporter.cli import options as cli_options
from exporter.cli.options import takes_options
from exporter.options.rules import option_field
from runtime.manifest import ArithmeticStep, GeometryStep, Input, Task

ROOT = Path(__file__).parents[1]

# One type in the manifest, and one line in each registry.
KIND_EDITS = {"runtime/manifest/inputs.py", "runtime/inputs/registry.py", "exporter/inputs/registry.py"}
TASK_EDITS = {"runtime/manifest/tasks.py", "runtime/outputs/registry.py", "exporter/outputs/registry.py"}
STEP_EDITS = {"runtime/manifest/steps.py", "runtime/geometry/registry.py", "exporter/inputs/image/registry.py"}
# The manifest's names for users, which an extension may join.
EXPORTS = {"runtime/manifest/__init__.py"}

KINDS = {
    "ImageInput": "image",
    "TensorInput": "tensor",
    "TabularInput": "tabular",
    "TextInput": "text",
    "TokensInput": "tokens",
}
# Only images have pictures in reports and overlays, gray levels, and geometry to bench; tokenizers travel with texts.
KIND_EXCEPTIONS = {
    "ImageInput": {
        "exporter/eager/bench.py",
        "exporter/parity/compare.py",
        "exporter/parity/pictures.py",
        "runtime/evaluation/segmentation.py",
        "runtime/jobs/overlays.py",
    },
    "TensorInput": {"exporter/eager/bench.py"},
    "TextInput": {"exporter/options/export.py"},
}

TASKS = {
    "Multilabel": "multilabel",
    "Regress": "regress",
    "Segment": "segment",
    "Classify": "classify",
    "Tokens": "tokens",
    "Words": "words",
    "Heads": "heads",
    "Raw": "raw",
}
# Probabilities of classes are calibrated and activated alike; maps of labels have ground truth of their own.
TASK_EXCEPTIONS = {
    "Classify": {"exporter/calibration/fit.py", "exporter/outputs/probabilities.py"},
    "Multilabel": {"exporter/calibration/fit.py", "exporter/outputs/probabilities.py"},
    "Words": {"exporter/outputs/probabilities.py"},
    "Segment": {"exporter/outputs/probabilities.py", "runtime/evaluation/segmentation.py"},
}

STEPS = {
    "Resize": "resize",
    "CenterCrop": "center_crop",
    "ShareCrop": "share_crop",
    "Pad": "pad",
    "SquarePad": "square_pad",
    "Grayscale": "grayscale",
    "ToFloat": "to_float",
    "Normalize": "normalize",
    "Standardize": "standardize",
    "ChannelOrder": "channel_order",
    "NearestColor": "nearest_color",
}
# The kernel converts to gray itself. Resizing has several implementations, each of which cuts a crop out as it goes.
# transformers' processors are made of a resize, a crop and a normalization rather than of transforms, and options state
# these one by one. Functions of tensors are read as arithmetic by what they give. The images that parity makes are
# chosen by what resizes and crops do.
_KERNELS = {"runtime/geometry/native.py", "runtime/geometry/pillow.py", "runtime/geometry/preparation.py"}
_PROCESSORS = "exporter/inputs/image/processors.py"
_PARTS = {_PROCESSORS, "exporter/inputs/image/plain_options.py"}
_PROBED = "exporter/inputs/image/probed.py"
STEP_EXCEPTIONS = {
    "Grayscale": {"runtime/geometry/native.py", "exporter/inputs/image/probed_geometry.py"},
    # A square is padded as any other frame; no library has it, so that it is read by probes.
    "Pad": {"runtime/geometry/steps/square_pad.py"},
    "SquarePad": {"exporter/inputs/image/probed_geometry.py"},
    "Standardize": {"exporter/inputs/image/probed.py"},
    "CenterCrop": {
        *_KERNELS,
        *_PARTS,
        "exporter/inputs/image/made_images.py",
        "exporter/inputs/image/steps/resize.py",
        "runtime/geometry/steps/resize.py",
        "runtime/geometry/steps/share_crop.py",
    },
    "ShareCrop": {_PROCESSORS, "exporter/inputs/image/made_images.py"},
    "Resize": {
        *_KERNELS,
        *_PARTS,
        "exporter/inputs/image/made_images.py",
        "exporter/inputs/image/antialias_onnx.py",
        "exporter/inputs/image/plain_onnx.py",
        "exporter/inputs/image/sizes_onnx.py",
        "exporter/inputs/image/sizes_torch.py",
        "exporter/inputs/image/to_onnx.py",
        "exporter/inputs/image/to_torchscript.py",
        "runtime/geometry/plain.py",
        "runtime/geometry/sizes.py",
    },
    # albumentations' Normalize divides by itself.
    "ToFloat": {*_PARTS, _PROBED, "exporter/inputs/image/steps/normalize.py"},
    "Normalize": {*_PARTS, _PROBED, "exporter/inputs/image/transform.py"},
    "ChannelOrder": {_PROCESSORS, _PROBED},
    # The network's input is no image any more.
    "NearestColor": {_PROCESSORS, "exporter/inputs/image/adapter.py"},
}


def names_of(union: object) -> set[str]:
    """Return the names of a union's types."""
    return {member.__name__ for member in get_args(union)}


def test_every_kind_task_and_step_is_counted():
    assert names_of(Input) == KINDS.keys()
    assert names_of(Task) == TASKS.keys()
    assert names_of(GeometryStep) | names_of(ArithmeticStep) == STEPS.keys()


def files_that_import(name: str) -> set[str]:
    """Return the files of the packages that import a type of the manifest, or define it."""
    imported = re.compile(
        rf"^(?:from runtime\.manifest[\w.]* import (?:\([^)]*\b{name}\b[^)]*\)|[^\n(]*\b{name}\b)|class {name}\()", re.M
    )
    paths = [*(ROOT / "exporter").rglob("*.py"), *(ROOT / "runtime").rglob("*.py")]
    return {str(path.relative_to(ROOT)) for path in paths if imported.search(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", KINDS)
def test_an_input_kind_is_a_folder_on_each_side_a_type_and_two_lines(name):
    own = (f"exporter/inputs/{KINDS[name]}/", f"runtime/inputs/{KINDS[name]}/")
    edited = {path for path in files_that_import(name) if not path.startswith(own)}

    assert edited - EXPORTS == KIND_EDITS | KIND_EXCEPTIONS.get(name, set())
    assert {"decoder.py", "source.py", "payload.py"} <= {path.name for path in (ROOT / own[1]).iterdir()}
    assert {"adapter.py", "open.py"} <= {path.name for path in (ROOT / own[0]).iterdir()}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_a_file_on_each_side_a_type_and_two_lines(name):
    own = {f"exporter/outputs/{TASKS[name]}.py", f"runtime/outputs/{TASKS[name]}.py"}
    edited = files_that_import(name) - own

    assert own <= files_that_import(name)
    # The exporter's registry has the task's name, and no import of its type.
    assert edited - EXPORTS == (TASK_EDITS - {"exporter/outputs/registry.py"}) | TASK_EXCEPTIONS.get(name, set())
    assert f"exporter.outputs.{TASKS[name]}:" in (ROOT / "exporter/outputs/registry.py").read_text()


@pytest.mark.parametrize("name", STEPS)
def test_a_preprocessing_step_is_a_type_a_file_on_each_side_and_two_lines(name):
    own = {f"exporter/inputs/image/steps/{STEPS[name]}.py"}
    edits = set(STEP_EDITS)
    if name in names_of(GeometryStep):
        own.add(f"runtime/geometry/steps/{STEPS[name]}.py")
    else:  # Arithmetic is in the graph alone.
        edits.remove("runtime/geometry/registry.py")
    edited = files_that_import(name) - own

    assert own <= files_that_import(name)
    assert edited - EXPORTS == edits | STEP_EXCEPTIONS.get(name, set())


@dataclass(frozen=True, kw_only=True)
class MoreOptions(ExportOptions):
    shade: int | None = option_field(kind=int, metavar="N", recheck=True, help="A toy option.")


def test_an_option_is_one_field(monkeypatch):
    """The field alone puts it into the command line, its help, and Python."""
    monkeypatch.setattr(cli_options, "ExportOptions", MoreOptions)
    seen: list[MoreOptions] = []
    app = typer.Typer()

    @app.command()
    @takes_options(lambda _name, option: option.recheck, checkpoint=Annotated[Path, typer.Argument()])
    def command(*, options: MoreOptions) -> None:
        seen.append(options)

    assert CliRunner().invoke(app, ["m.pth", "--shade", "3"]).exit_code == 0
    assert "A toy option." in CliRunner().invoke(app, ["--help"]).output
    assert seen == [replace(MoreOptions.from_keywords("m.pth"), shade=3)]

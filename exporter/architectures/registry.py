"""A reference to what builds a network: torchvision, timm, a Hugging Face folder, or the user's own code."""

import ast
import copy
import difflib
import inspect
import re
import textwrap
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torchvision
from torch import nn

from exporter.architectures import HUGGING_FACE, TIMM
from exporter.architectures.constructors import describe_failure, without_downloads
from exporter.architectures.hugging_face import build_auto, load_auto
from exporter.errors import ArchitectureError
from exporter.object_path import is_reference, load_object

# A name, 'timm:NAME', 'hf:FOLDER', 'FILE.py:NAME', 'package.module:NAME', or the callable or module itself.
Architecture: TypeAlias = str | Callable[..., nn.Module] | nn.Module


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """What builds an architecture, and how its sizes are said.

    ``classes`` and ``channels`` are the names of the constructor's arguments, empty where it has none; ``variants`` are
    arguments that decide which tensors it has. ``resizable`` means that its head and stem may be replaced.
    ``torchvision_name`` is empty for architectures from other sources. ``rename`` brings a key of an older release of
    the library up to date. ``converts`` says whether the library merges or splits a tensor of that key while it loads
    a file; ``save_converted`` is the code that saves what it has loaded.
    """

    reference: str
    build: Callable[..., nn.Module]
    torchvision_name: str = ""
    classes: str = ""
    channels: str = ""
    resizable: bool = False
    variants: tuple[Mapping[str, Any], ...] = ({},)
    rename: Callable[[str], str] | None = None
    converts: Callable[[str], bool] | None = None
    save_converted: str = ""


def resolve(architecture: Architecture, *, trust: bool = False) -> Blueprint:
    """Return what builds ``architecture``; Python code of a Hugging Face folder runs only if ``trust`` is true.

    Raises ArchitectureError when there is no such thing, or the library it is from is not installed.
    """
    if isinstance(architecture, nn.Module):
        return _instance(f"{type(architecture).__module__}:{type(architecture).__qualname__}", architecture)
    if not isinstance(architecture, str):
        return Blueprint(reference=f"{architecture.__module__}:{architecture.__qualname__}", build=architecture)
    if architecture.startswith(TIMM):
        return _timm(architecture)
    if architecture.startswith(HUGGING_FACE):
        return _hugging_face(architecture, trust=trust)
    if is_reference(architecture):
        with without_downloads():  # scripts and notebooks also build networks where they define them
            found = load_object(architecture, error=ArchitectureError)
        if isinstance(found, nn.Module):
            return _instance(architecture, found)
        if not callable(found):
            raise ArchitectureError(
                f"'{architecture}': not an architecture: expected a class or function that returns a torch.nn.Module, "
                f"got {type(found).__name__}. Name the class."
            )
        return Blueprint(reference=architecture, build=found)
    return _torchvision(architecture)


def build(blueprint: Blueprint, arguments: Mapping[str, Any]) -> nn.Module:
    """Return the network, with the weights that its constructor gives it.

    Raises ArchitectureError when building fails or gives something else.
    """
    try:
        with warnings.catch_warnings(), without_downloads():
            # torchvision's googlenet and inception warn that their slow initialization will change; it is overwritten.
            warnings.filterwarnings("ignore", message="The default weight initialization", category=FutureWarning)
            network = blueprint.build(**{name: _with_attributes(value) for name, value in arguments.items()})
    except ArchitectureError:
        raise
    except Exception as error:  # the user's constructor may raise anything
        raise ArchitectureError(
            f"'{blueprint.reference}': building it failed: {describe_failure(error, _signature(blueprint.build))}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ArchitectureError(
            f"'{blueprint.reference}': not an architecture: expected it to return a torch.nn.Module, "
            f"got {type(network).__name__}. Name the class."
        )
    return _in_float32(without_parallel(network))


class _Settings(dict[str, Any]):
    """Settings in one argument, such as ``cfg={"width": 64}``: read as ``cfg["width"]`` or ``cfg.width``."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.__dict__ = self


def _with_attributes(value: Any) -> Any:
    """Return plain settings, those inside of them as well, as scripts read them; anything else as it is."""
    if type(value) is dict:
        return _Settings({key: _with_attributes(entry) for key, entry in value.items()})
    return [_with_attributes(entry) for entry in value] if type(value) is list else value


def _in_float32(network: nn.Module) -> nn.Module:
    """Return a network that its constructor made of half precision in float32, which has all of its values."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dtype in (torch.float16, torch.bfloat16):
            tensor.data = tensor.data.float()
    return network


def without_parallel(network: nn.Module) -> nn.Module:
    """Return a network without the wrappers that spread it over devices, wherever in it they are."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(network, wrappers):
        network = network.module
    for name, child in network.named_children():
        inner = without_parallel(child)
        if inner is not child:
            setattr(network, name, inner)
    return network


def _torchvision(name: str) -> Blueprint:
    known = torchvision.models.list_models()
    if name not in known:
        raise ArchitectureError(
            f"'{name}': unknown architecture: expected a torchvision name, 'timm:NAME', 'hf:FOLDER', 'FILE.py:NAME' or "
            f"'package.module:NAME'. {_near(name, known)}For your own network, pass the file that defines it."
        )
    make = torchvision.models.get_model_builder(name)
    kind = make.__module__.rpartition("models.")[2].partition(".")[0]
    variants: tuple[Mapping[str, Any], ...] = ({},)
    if name in ("googlenet", "inception_v3"):
        variants = ({}, {"aux_logits": False})
    elif kind == "segmentation" and not name.startswith("lraspp"):
        variants = ({}, {"aux_loss": True})
    if kind in ("detection", "segmentation"):
        # These would otherwise download the weights of their backbone.
        return Blueprint(
            reference=name,
            build=lambda **arguments: make(**{"weights": None, "weights_backbone": None, **arguments}),
            torchvision_name=name,
            classes="num_classes",
            resizable=kind == "segmentation",
            variants=variants,
        )
    return Blueprint(
        reference=name,
        build=make,
        torchvision_name=name,
        classes="num_classes",
        resizable=True,
        variants=variants,
    )


def _timm(reference: str) -> Blueprint:
    name = reference.removeprefix(TIMM)
    try:
        import timm
    except ImportError:
        raise ArchitectureError(f"'{reference}': timm is not installed. Run: pip install 'truecopy[timm]'.") from None
    if not timm.is_model(name):
        raise ArchitectureError(
            f"'{reference}': unknown architecture: expected a name of timm {timm.__version__}. "
            f"{_near(name, timm.list_models())}Check the name, or install the timm that has it."
        )
    return Blueprint(
        reference=reference,
        build=lambda **arguments: timm.create_model(name, pretrained=False, **arguments),
        classes="num_classes",
        channels="in_chans",
        resizable=True,
    )


class Logits(nn.Module):
    """A transformers model whose answer is the tensor of logits, instead of an object that holds it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        """Return logits, float32 [batch, classes]; PP-LCNet calls them its last hidden state."""
        outputs = self.model(*inputs, **named, return_dict=True)
        logits: torch.Tensor = outputs.logits if "logits" in outputs else outputs.last_hidden_state
        return logits


class MovedBatch(nn.Module):
    """A network that gets tensors with the batch first, and takes some with it as another dimension.

    ``axes`` are those dimensions by the names of all inputs, in their order.
    """

    def __init__(self, model: nn.Module, axes: Mapping[str, int]) -> None:
        super().__init__()
        self.model = model
        self.axes = dict(axes)

    def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        """Return what the network returns."""
        moved = [tensor.movedim(0, axis) for tensor, axis in zip(inputs, self.axes.values(), strict=False)]
        return self.model(*moved, **{name: tensor.movedim(0, self.axes[name]) for name, tensor in named.items()})


class InDictionary(nn.Module):
    """A network whose forward takes a dictionary of one tensor, which this one takes itself."""

    def __init__(self, model: nn.Module, key: str) -> None:
        super().__init__()
        self.model = model
        self.key = key

    def forward(self, tensor: torch.Tensor) -> Any:
        """Return what the network returns."""
        return self.model({self.key: tensor})


def inner_model(network: nn.Module) -> nn.Module:
    """Return the model inside of what the classes above put around one, or any other network itself."""
    return inner_model(network.model) if isinstance(network, Logits | MovedBatch | InDictionary) else network


def dictionary_keys(network: nn.Module) -> tuple[str, ...]:
    """Return the keys that a forward of one parameter reads of it, as in ``batch["image"]``; none of any other."""
    forward = inner_model(network).forward
    try:
        (name,) = inspect.signature(forward).parameters
        source = ast.parse(textwrap.dedent(inspect.getsource(forward)))
    except (OSError, TypeError, ValueError, SyntaxError):  # other parameters, no source, or a lambda in a line
        return ()
    read = [
        node.slice.value
        for node in ast.walk(source)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
        and isinstance(node.slice, ast.Constant)
    ]
    return tuple(dict.fromkeys(key for key in read if isinstance(key, str)))


def _hugging_face(reference: str, *, trust: bool) -> Blueprint:
    folder = Path(reference.removeprefix(HUGGING_FACE))
    if not (folder / "config.json").is_file():
        raise ArchitectureError(
            f"'{reference}': not a Hugging Face folder: expected a file 'config.json' in it. Name the model's folder."
        )
    if find_spec("transformers") is None:
        raise ArchitectureError(f"'{reference}': transformers is not installed. Run: pip install 'truecopy[hf]'.")
    config = load_auto(
        "AutoConfig",
        folder,
        trust=trust,
        error=ArchitectureError,
        problem=f"'{reference}': its config.json cannot be read",
        fix="Install the transformers version that it names.",
    )

    def make(task: str, **arguments: Any) -> Any:
        return build_auto(f"AutoModelFor{task}", config, folder, trust=trust, error=ArchitectureError, **arguments)

    names = [str(name) for name in getattr(config, "architectures", None) or ()]
    tasks = ("ImageClassification", "SequenceClassification", "TokenClassification")
    # Some say more behind it, as DeiT's ForImageClassificationWithTeacher and Perceiver's.
    task = next((task for task in tasks if any(f"For{task}" in name for name in names)), None)
    if any(name.endswith("ForConditionalGeneration") for name in names) and config.is_encoder_decoder:
        return _hugging_face_writer(reference, folder, lambda: make("Seq2SeqLM"))
    if task is None:
        raise ArchitectureError(
            f"'{reference}': its task is not supported: expected an architecture that ends in "
            "'ForImageClassification', 'ForSequenceClassification', 'ForTokenClassification' or, with encoder and "
            f"decoder, 'ForConditionalGeneration', got {', '.join(map(repr, names)) or 'none'}. "
            "Pass your own FILE.py:NAME that builds it."
        )
    rename, converts = _hugging_face_conversions(lambda: make(task))
    loading = f"AutoModelFor{task}.from_pretrained({str(folder)!r})"
    return Blueprint(
        reference=reference,
        build=lambda **arguments: Logits(make(task, **arguments)),
        rename=rename,
        converts=converts,
        save_converted=f"torch.save({loading}.state_dict(), 'model.pth')",
    )


def _hugging_face_writer(reference: str, folder: Path, build_model: Callable[[], Any]) -> Blueprint:
    """Return what builds an encoder-decoder that writes step by step; it takes token numbers."""
    import transformers

    from exporter.architectures.seq2seq import build_seq2seq

    try:
        settings: Any = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:  # an older folder has no generation_config.json
        settings = None

    def make() -> Any:
        model = build_model()
        config = model.config
        # What generate() does by itself is taken from the settings, which are looked at, and from nothing else.
        model.generation_config = transformers.GenerationConfig(
            decoder_start_token_id=config.decoder_start_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        )
        return model

    return Blueprint(
        reference=reference,
        build=lambda **arguments: build_seq2seq(make(), settings, reference, **arguments),
        rename=_hugging_face_conversions(make)[0],
    )


def _hugging_face_conversions(
    make: Callable[[], Any],
) -> tuple[Callable[[str], str] | None, Callable[[str], bool] | None]:
    """Return how transformers 5 names a tensor that files keep under an older name, and whether it converts it.

    Earlier releases do neither: None.
    """
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
    except ImportError:
        return None, None
    with torch.device("meta"):
        conversions = get_model_conversion_mapping(make())
    renamings = [conversion for conversion in conversions if isinstance(conversion, WeightRenaming)]
    converters = [conversion for conversion in conversions if isinstance(conversion, WeightConverter)]
    return (
        lambda key: str(rename_source_key(key, renamings, [])[0]),
        lambda key: rename_source_key(key, renamings, converters)[1] is not None,
    )


def _instance(reference: str, module: nn.Module) -> Blueprint:
    return Blueprint(reference=reference, build=lambda: copy.deepcopy(module))


def _near(name: str, known: list[str]) -> str:
    # Of torchvision.models.resnet18 and microsoft/resnet-18, the name is what stands last.
    last = re.split(r"[./:]", name.lower())[-1]
    near = difflib.get_close_matches(last or name.lower(), known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(repr(one) for one in near)}? " if near else ""


def _signature(make: Callable[..., nn.Module]) -> str:
    try:
        return str(inspect.signature(make).replace(return_annotation=inspect.Signature.empty))
    except (ValueError, TypeError):  # a builtin without one
        return "unknown"

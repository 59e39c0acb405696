"""Index of the tensors of every known architecture.

Each is built twice without weights, with other numbers of classes and channels: the tensors that differ are the head
and the stem. An argument restricts the index to names that contain it, for trials.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from rich.progress import track
from torch import nn

from exporter.architectures.fingerprints import INDEX_NAME, Architecture, Index, index_to_bytes, line_of
from exporter.architectures.meta_models import build_skeleton, shapes_of

OUT = Path(__file__).parents[2] / "exporter" / "architectures" / INDEX_NAME
# Their difference is a large prime, so a length that grew by a multiple of it depends on the classes.
CLASSES = (11, 1020)
CHANNELS = (3, 5)
STEP = CLASSES[1] - CLASSES[0]

Shapes = dict[str, tuple[int, ...]]


def architectures() -> Iterator[tuple[str, dict[str, Any], Callable[..., nn.Module], str]]:
    """Yield the reference, arguments, builder and kind of every architecture."""
    for name in torchvision.models.list_models():
        if name.startswith("quantized_"):
            continue
        kind = torchvision.models.get_model_builder(name).__module__.rpartition("models.")[2].partition(".")[0]
        variants: list[dict[str, Any]] = [{}]
        if name in ("googlenet", "inception_v3"):
            variants = [{}, {"aux_logits": False}]
        elif kind == "segmentation" and not name.startswith("lraspp"):
            variants = [{}, {"aux_loss": True}]
        for variant in variants:
            yield name, variant, torchvision.models.get_model_builder(name), kind
    for name in timm.list_models():
        yield f"timm:{name}", {}, lambda name=name, **sizes: timm.create_model(name, **sizes), "timm"


def template(first: tuple[int, ...], second: tuple[int, ...]) -> str:
    lengths = []
    for length, other in zip(first, second, strict=True):
        if length == other:
            lengths.append(str(length))
        elif (other - length) % STEP == 0:
            factor = (other - length) // STEP
            lengths.append(f"{factor}c+{length - factor * CLASSES[0]}")
        else:
            factor = (other - length) // (CHANNELS[1] - CHANNELS[0])
            lengths.append(f"{factor}i+{length - factor * CHANNELS[0]}")
    return ",".join(lengths)


def lines_of(first: Shapes, second: Shapes, kind: str) -> list[str]:
    lines = []
    stem = True
    for key, shape in first.items():
        if key.endswith("num_batches_tracked"):
            continue
        line = f"{key} {template(shape, second[key])}"
        # torchvision's constructors take no channels; a detector normalizes three.
        if stem and kind not in ("timm", "detection", "optical_flow") and len(shape) > 3 and shape[1] == 3:
            line = line_of(key, shape).replace(",3,", ",1i+0,", 1)
            stem = False
        lines.append(line)
    return lines


def traits_of(network: nn.Module) -> dict[str, str]:
    traits: dict[str, list[str]] = {
        name: [] for name in ("stride", "padding", "dilation", "eps", "activation", "pooling", "input size")
    }
    for module in network.modules():
        for name in ("stride", "padding", "dilation"):
            if hasattr(module, name) and list(module.parameters(recurse=False)):
                traits[name].append(str(getattr(module, name)))
        if hasattr(module, "eps"):
            traits["eps"].append(str(module.eps))
        kind = type(module).__name__
        if not list(module.children()) and not list(module.parameters()) and "Drop" not in kind:
            group = "pooling" if "Pool" in kind else "activation" if kind not in ("Identity", "Flatten") else ""
            if group:
                traits[group].append(module.extra_repr() + kind)
    config = getattr(network, "pretrained_cfg", None) or {}
    traits["input size"].append(str(config.get("input_size", "")))
    return {name: hashlib.sha256("\n".join(texts).encode()).hexdigest()[:6] for name, texts in traits.items()}


def make(only: str) -> Index:
    index_of: dict[str, int] = {}
    made: dict[str, Architecture] = {}
    for reference, variant, build, kind in track(list(architectures()), description="fingerprints"):
        name = " ".join([reference, *(f"{key}={value}" for key, value in variant.items())])
        if only not in name:
            continue
        quick = {"init_weights": False} if reference in ("googlenet", "inception_v3") else {}
        if kind in ("detection", "segmentation"):
            quick = {"weights": None, "weights_backbone": None}
        try:
            arguments = {**variant, **quick}
            if kind == "optical_flow":
                networks = [build_skeleton(build, arguments)] * 2
            else:
                sizes = [{"num_classes": classes} for classes in CLASSES]
                if kind == "timm":
                    sizes = [size | {"in_chans": count} for size, count in zip(sizes, CHANNELS, strict=True)]
                networks = [build_skeleton(build, arguments | size) for size in sizes]
            lines = lines_of(*(shapes_of(network) for network in networks), kind)
        except Exception as error:
            print(f"skipped: {name}: {type(error).__name__}: {str(error)[:150]}", file=sys.stderr)
            continue
        indices = [index_of.setdefault(line, len(index_of)) for line in lines]
        differences = [index - before for index, before in zip(indices, [0, *indices], strict=False)]
        made[name] = Architecture(arguments=variant, tensors=differences, traits=traits_of(networks[0]))
    versions = {module.__name__: str(module.__version__).partition("+")[0] for module in (torch, torchvision, timm)}
    return Index(made_with=versions, tensors=list(index_of), architectures=made)


if __name__ == "__main__":
    torch.set_num_threads(1)
    start = time.perf_counter()
    index = make(sys.argv[1] if len(sys.argv) > 1 else "")
    data = index_to_bytes(index)
    OUT.write_bytes(data)
    print(
        f"{OUT}: {len(index.architectures)} architectures, {len(index.tensors)} tensors, {len(data) / 1e6:.2f} MB, "
        f"{time.perf_counter() - start:.0f} s, made with {index.made_with}"
    )

"""Cases of a sweep: a checkpoint of one architecture in a random form, read back or exported."""

import hashlib
import random
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms

import exporter
from exporter.architectures.fingerprints import read_table
from exporter.architectures.identify import identify
from exporter.architectures.rebuild import rebuild
from exporter.checkpoint import read_checkpoint
from material.shipped import shipped_photos

CLASSES = 7
# How far a rounding of a noise image may move a logit, as a share of the photos' deviation. Some untrained networks
# with the statistics of photos alone amplify noise until only rounding is left: a comparison then says nothing.
MAXIMUM_CHAOS = 0.01
_ROUNDING = 1e-6
# Heights and widths of the noise images that such networks are calibrated on.
_NOISE_SIZES = ((280, 360), (320, 320), (240, 320), (200, 300))
# The deviation of a logit over the photos that give_signal() aims at, and the least that is enough: some networks
# average two heads.
LOGIT_DEVIATION = 2.5
MINIMUM_SIGNAL = 0.1
MILLIONS = 30
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "student.")
_NESTINGS = ("", "state_dict", "model", "model_state_dict", "net", "params", "checkpoint.state_dict", "trained.weights")
_SLOW_INITS = ("googlenet", "inception_v3")


def classifiers() -> list[str]:
    """Return torchvision's classification architectures."""
    return torchvision.models.list_models(module=torchvision.models)


def small_timm() -> list[str]:
    """Return timm's architectures of at most 30 million parameters, head of 7 classes included."""
    table = read_table()
    names = []
    for row, name in enumerate(table.names):
        total = 0
        for index in table.rows[table.starts[row] : table.starts[row + 1]]:
            size = 1
            for length in table.templates[index]:
                variable = re.fullmatch(r"(\d+)([ci])\+(\d+)", length)
                value = {"c": CLASSES, "i": 3}[variable[2]] if variable else 0
                size *= int(variable[1]) * value + int(variable[3]) if variable else int(length)
            total += 0 if table.keys[index].endswith(("running_mean", "running_var")) else size
        if name.startswith("timm:") and total <= MILLIONS * 1_000_000:
            names.append(name)
    return names


def sample(names: list[str], count: int) -> list[str]:
    """Return ``count`` of ``names``, spread over their order, always the same."""
    return [names[index * len(names) // count] for index in range(count)]


def build(name: str) -> nn.Module:
    """Return an untrained network with a head of 7 classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name.startswith("timm:"):
            return timm.create_model(name.partition(":")[2], pretrained=False, num_classes=CLASSES)
        quick = {"init_weights": False} if name in _SLOW_INITS else {}
        return torchvision.models.get_model(name, num_classes=CLASSES, **quick)


def round_trip(name: str, folder: Path) -> dict[str, Any]:
    """Save, read, identify and rebuild one architecture; return the result."""
    generator = random.Random(name)
    torch.manual_seed(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    network = build(name).eval()
    images = photo_crops(transform_for(name, network), count=4)
    give_signal(network, images)
    tensors = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    prefix = "".join(generator.sample(_WRAPPERS, generator.randint(0, 3)))
    nesting = generator.choice(_NESTINGS)
    path = _save({prefix + key: value for key, value in tensors.items()}, nesting, generator, folder)
    try:
        checkpoint = read_checkpoint(path)
        fits = [fit for fit in identify(checkpoint.shapes) if fit.exact]
        names = [fit.architecture for fit in fits]
        classes = {fit.num_classes for fit in fits if fit.architecture == name}
        rebuilt = rebuild(name, {}, checkpoint)
        state = rebuilt.network.state_dict()
        wrong = [key for key in tensors if not torch.equal(state[key], tensors[key])]
        with torch.no_grad():
            expected, outputs = network(images), rebuilt.network(images)
    finally:
        path.unlink()
    # Equal weights at other addresses may be summed in another order.
    same = torch.allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    exact = not wrong and set(state) == set(tensors) and same
    signal = float(expected.std(0).mean())
    return {
        "how": f"{path.suffix} '{nesting}' {prefix}*",
        "identified": name in names,
        "fits": names,
        "classes_found": classes == {CLASSES},
        "exact": exact,
        "signal": round(signal, 3),
        "passed": name in names and exact and classes == {CLASSES} and signal > MINIMUM_SIGNAL,
    }


def _save(tensors: dict[str, torch.Tensor], nesting: str, generator: random.Random, folder: Path) -> Path:
    kind = generator.choice([".safetensors", ".pth", ".pth", ".pt"])
    path = folder / f"checkpoint{kind}"
    if kind == ".safetensors":
        safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, path)
        return path
    content: dict[str, Any] = tensors
    for part in reversed(nesting.split(".") if nesting else []):
        content = {"epoch": 3, part: content, "best": 0.5}
    torch.save(content, path, _use_new_zipfile_serialization=kind == ".pth")
    return path


def export(name: str, folder: Path) -> dict[str, Any]:
    """Export one architecture with weights that carry signal; return the verdict and the figures."""
    torch.manual_seed(0)
    network = build(name)
    transform = transform_for(name, network)
    photos = photo_crops(transform, count=16)
    give_signal(network, photos)
    noise = noise_images(transform)
    if chaos(network, noise) > MAXIMUM_CHAOS * LOGIT_DEVIATION:
        torch.manual_seed(0)
        network = build(name)
        damp_branches(network)
        give_signal(network, photos, also=noise)
    path = folder / "model.pth"
    torch.save(network.state_dict(), path)
    return describe_export(
        lambda: exporter.export(path, name, preprocess=transform, out=folder / "artifact"), recurrent=False
    )


def describe_export(run: Callable[[], exporter.ExportResult], *, recurrent: bool) -> dict[str, Any]:
    """Return the verdict of an export and the figures; ``recurrent`` networks may fall back on the legacy exporter."""
    try:
        exported = run()
    except exporter.ParityError as error:
        rows = error.report.rows if error.report else ()
        # Untrained networks may amplify one gray level to another label: the stages tell it from a fault of conversion.
        failed = sorted({f"{row.path} {row.stage}" for row in rows if not row.passed})
        return {"passed": False, "stages": failed, "error": f"ParityError: {error}"}
    summary = exported.parity.summary()
    return {
        "passed": summary.verdict == "passed",
        "exporter": exported.manifest.source.onnx_exporter,
        "fallback": "; ".join(exported.parity.fallbacks),
        "recurrent": recurrent,
        "score_difference": summary.score_difference,
        "noise_ratio": summary.ratio,
        "label_agreement": summary.label_agreement,
    }


def transform_for(name: str, network: nn.Module) -> Any:
    """Return the usual evaluation transform at the size that the network wants."""
    if not name.startswith("timm:"):
        weights = torchvision.models.get_model_weights(name)
        # Some weights are of another image size than the architecture has by default.
        image_size = getattr(network, "image_size", None)
        presets = [entry.transforms() for entry in (weights.DEFAULT, *weights)]
        return next((preset for preset in presets if image_size in (None, *preset.crop_size)), presets[0])
    _, height, width = network.pretrained_cfg["input_size"]
    return transforms.Compose(
        [
            transforms.Resize((height, width), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ]
    )


def photo_crops(transform: Any, *, count: int) -> torch.Tensor:
    """Return ``count`` random crops of the shipped photos, transformed, as one batch."""
    photos = list(shipped_photos().values())
    generator = random.Random(0)
    crops = []
    for photo in photos * (count // len(photos)):
        side = generator.randint(min(photo.size) // 2, min(photo.size))
        left, top = generator.randint(0, photo.width - side), generator.randint(0, photo.height - side)
        crops.append(transform(photo.crop((left, top, left + side, top + side))))
    return torch.stack(crops)


def noise_images(transform: Any, *, sizes: Sequence[tuple[int, int]] = _NOISE_SIZES) -> torch.Tensor:
    """Return images of random pixels, transformed, as one batch."""
    generator = np.random.default_rng(2)
    images = [generator.integers(0, 256, (height, width, 3), np.uint8) for height, width in sizes]
    return torch.stack([transform(Image.fromarray(image)) for image in images])


def chaos(network: nn.Module, images: torch.Tensor) -> float:
    """Return the largest change of the network's outputs under rounding of the images."""
    with torch.no_grad():
        return float((network(images * (1 + _ROUNDING)) - network(images)).abs().max())


def damp_branches(network: nn.Module) -> None:
    """Scale residual branches down, as training does, so that they do not multiply noise."""
    for block in network.modules():
        if getattr(block, "use_res_connect", False):
            *_, last = (norm for norm in block.modules() if isinstance(norm, nn.BatchNorm2d))
            nn.init.constant_(last.weight, 0.5)


def give_signal(network: nn.Module, images: torch.Tensor, *, also: torch.Tensor | None = None) -> None:
    """Give batch norm true statistics, and center and scale the head, so that scores differ between photos.

    The statistics include ``also``.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.train()
        else:
            module.training = False
    # Residual branches and heads that start at zero would leave most of the network without effect.
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
        elif parameter.ndim == 1 and float(parameter.detach().abs().max()) < 1e-3:
            nn.init.constant_(parameter, 0.5)
    calls: list[tuple[nn.Module, torch.Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, _, output: calls.append((module, output)))
        for module in network.modules()
        if getattr(module, "out_features", getattr(module, "out_channels", None)) == CLASSES
    ]
    with torch.no_grad():
        network(images if also is None else torch.cat([images, also]))
        network.eval()
        calls.clear()
        network(images)
        for hook in hooks:
            hook.remove()
        for module, output in calls[-1:]:
            dims = [0, *range(2, output.ndim)] if isinstance(module, nn.Conv2d) else [*range(output.ndim - 1)]
            scale = LOGIT_DEVIATION / output.std(dims).clamp_min(1e-12)
            weight = module.weight
            weight.mul_(scale.view(-1, *[1] * (weight.ndim - 1)))
            if module.bias is not None:
                module.bias.copy_((module.bias - output.mean(dims)) * scale)

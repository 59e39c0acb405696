"""int8, its pair with fp32, and fp16, against fp32: speed on one thread, labels that stay, size, what is refused."""

import argparse
import importlib
import inspect
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import text_classifier
import torch
import torchvision
from data import training
from PIL import Image

import exporter
import runtime
from benchmarks.figures import Figure, Results
from benchmarks.timing import median_ms
from exporter.errors import ParityError
from exporter.precision.deferral import BatchSpeed
from exporter.precision.quantize import quantize
from exporter.precision.variant import MIN_AGREEMENT, VariantReport, VariantRequest
from material.paths import ARTIFACT
from runtime.engine.cpu import has_fast_int8
from runtime.manifest import LEAST_SPEED

DEMO = Path("build/demo")
ROUNDS = 30

# Floors: of the speed on a processor with fast instructions and without, and of what a variant adds to the weights.
SPEED_FAST, SPEED_SLOW, SPEED_TEXT = 2.3, 1.5, 1.5
ADDED = 0.30

# The least agreement on crops of which few show one thing well.
AGREEMENT_HARD = 0.92

# Modules with as many documented names as the sentences need that the text classifier is measured on.
DOCUMENTED = (
    *("numpy", "numpy.linalg", "numpy.random", "numpy.ma", "numpy.fft", "scipy.stats", "scipy.optimize"),
    *("scipy.signal", "scipy.ndimage", "scipy.linalg", "scipy.special", "skimage.filters", "skimage.transform"),
    *("skimage.measure", "skimage.feature", "skimage.segmentation", "skimage.color", "skimage.morphology", "torch"),
    *("torch.nn", "torch.nn.functional", "torch.optim", "torch.linalg", "torch.distributions", "os", "os.path"),
    *("socket", "subprocess", "shutil", "signal", "threading", "asyncio", "multiprocessing", "logging", "pathlib"),
)
SENTENCES = 1128

Part = Callable[[Path, argparse.Namespace], list[Figure]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="the networks to measure")
    parser.add_argument("--crops", type=int, default=1128, help="crops of photos; 128 of them calibrate")


def measure(options: argparse.Namespace) -> Results:
    """Return the figures of each network."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        return Results(figures=[figure for name in options.only for figure in PARTS[name](folder, options)])


def measure_resnet18(folder: Path, _options: argparse.Namespace) -> list[Figure]:
    """Return the speed and the size of resnet18, whose weights are random: its labels say nothing."""
    network = torchvision.models.resnet18()
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    images = [transform(Image.open(path).convert("RGB")) for path in photos()]
    training.give_signal(network, torch.stack(images))
    torch.save(network.state_dict(), folder / "resnet18.pth")
    exporter.export(folder / "resnet18.pth", "resnet18", out=folder / "resnet18")
    request = VariantRequest(calibration=make_crops(folder / "few", 48), min_agreement=0.01)
    report = quantize(folder / "resnet18", request)
    floor = SPEED_SLOW if has_fast_int8() is False else SPEED_FAST
    return [
        speed_figure("resnet18, one photo, one thread", report, floor),
        size_figure("resnet18", report),
        *pair_figures("resnet18", folder / "resnet18", report, photos()),
    ]


def measure_efficientnet(folder: Path, options: argparse.Namespace) -> list[Figure]:
    """Return what is left of the labels of EfficientNet-Lite0, with its real weights, on crops of real photos."""
    crops = make_crops(folder / "crops", options.crops)
    artifact = folder / "efficientnet-lite0"
    shutil.copytree(ARTIFACT, artifact)
    try:
        quantize(artifact, VariantRequest(calibration=crops))
        refusal = "not refused"
    except ParityError as error:
        refusal = str(error).partition("The nodes that cost most: ")[2].partition(". Nothing")[0]
    report = quantize(artifact, VariantRequest(calibration=crops, min_agreement=AGREEMENT_HARD))
    half = quantize(artifact, VariantRequest(precision="fp16", calibration=crops))
    agreement = report.approximation.agreement
    return [
        Figure(
            promise=f"EfficientNet-Lite0, {agreement.inputs} hard crops: labels as in fp32",
            measured=f"{agreement.share:.1%}, at 95% between {agreement.low:.1%} and {agreement.high:.1%}",
            target=f"{AGREEMENT_HARD:.0%}",
            met=agreement.share >= AGREEMENT_HARD,
        ),
        Figure(
            promise=f"the same at --min-agreement {MIN_AGREEMENT}",
            measured=refusal,
            target="refused, with the costly nodes",
            met=refusal not in {"", "not refused"},
        ),
        speed_figure("EfficientNet-Lite0, one photo, one thread", report, None),
        size_figure("EfficientNet-Lite0", report),
        *pair_figures("EfficientNet-Lite0", artifact, report, photos()),
        Figure(
            promise=f"EfficientNet-Lite0 in fp16, {half.approximation.agreement.inputs} hard crops: labels as in fp32",
            measured=f"{half.approximation.agreement.share:.1%}, {half.ratio:.2f} times as fast on this CPU",
            target=f"{MIN_AGREEMENT:.0%}",
            met=half.approximation.agreement.share >= MIN_AGREEMENT,
        ),
    ]


def measure_text(folder: Path, _options: argparse.Namespace) -> list[Figure]:
    """Return the speed and the labels of the MiniLM classifier, in batches of 1 and of 32."""
    sentences, groups = text_classifier.read_sentences()
    text_classifier.train(folder / "classifier", sentences[::4], groups[::4])
    exporter.export(folder / "classifier", f"hf:{folder / 'classifier'}", out=folder / "text")
    report = quantize_texts(folder / "text", sentences)
    agreement = report.approximation.agreement
    figures = [
        Figure(
            promise=f"MiniLM classifier, {agreement.inputs} sentences: labels as in fp32",
            measured=f"{agreement.share:.1%}, at 95% between {agreement.low:.1%} and {agreement.high:.1%}",
            target="98%",
            met=agreement.share >= 0.98,
        ),
        size_figure("MiniLM classifier", report),
    ]
    models = [runtime.load(folder / "text", precision=name, device="cpu", threads=1) for name in ("fp32", "int8")]
    for size in (1, 32):
        texts = sentences[:size]
        fp32_ms, own_ms = median_ms([lambda model=model, texts=texts: model.predict(texts) for model in models], ROUNDS)
        figures.append(ratio_figure(f"MiniLM classifier, {size} sentences", fp32_ms, own_ms, SPEED_TEXT))
    # More sentences, also of modules that the classifier has not seen: it is less sure of them.
    report = quantize_texts(folder / "text", read_many_sentences())
    agreement = report.approximation.agreement
    return [
        *figures,
        Figure(
            promise=f"MiniLM classifier, {agreement.inputs} sentences of other modules: labels as in fp32",
            measured=f"{agreement.share:.1%}, at 95% between {agreement.low:.1%} and {agreement.high:.1%}",
            target="",
            met=None,
        ),
        *pair_figures("MiniLM classifier", folder / "text", report, sentences[:32]),
    ]


def quantize_texts(artifact: Path, sentences: Sequence[str]) -> VariantReport:
    """Add int8, measured on sentences, to an artifact."""
    lines = artifact.with_suffix(".txt")
    lines.write_text("".join(f"{' '.join(sentence.split())}\n" for sentence in sentences), encoding="utf-8")
    return quantize(artifact, VariantRequest(calibration=lines, min_agreement=0.9))


def read_many_sentences() -> list[str]:
    """Return sentences of documentation, evenly spread over those of many modules: 128 calibrate, 1,000 measure."""
    sentences = set()
    for name in DOCUMENTED:
        module = importlib.import_module(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            members = [getattr(module, member, None) for member in sorted(dir(module)) if not member.startswith("_")]
        for text in (inspect.getdoc(member) for member in members if callable(member)):
            sentence = " ".join((text or "").partition("\n\n")[0].split())
            if 20 <= len(sentence) <= 200 and "->" not in sentence and "(" not in sentence:
                sentences.add(sentence)
    spread = sorted(sentences)
    return [spread[len(spread) * number // SENTENCES] for number in range(SENTENCES)]


def photos() -> list[Path]:
    """Return the demo's photos."""
    return sorted(path for path in (DEMO / "photos").iterdir() if path.suffix in {".jpg", ".png"})


def make_crops(folder: Path, count: int) -> Path:
    """Write random crops of the demo's photos, from a fifth of the short side on: few of them show one thing well."""
    folder.mkdir()
    generator = random.Random(0)
    opened = [Image.open(path).convert("RGB") for path in photos()]
    for number in range(count):
        photo = opened[number % len(opened)]
        side = generator.randint(min(photo.size) // 5, min(photo.size))
        left, top = generator.randint(0, photo.width - side), generator.randint(0, photo.height - side)
        photo.crop((left, top, left + side, top + side)).save(folder / f"{number:05}.png")
    return folder


def speed_figure(promise: str, report: VariantReport, floor: float | None) -> Figure:
    """Return how fast the network of a variant is, as 'truecopy quantize' measured it: in turns with fp32."""
    return ratio_figure(promise, report.fp32_ms, report.own_ms, floor)


def ratio_figure(promise: str, fp32_ms: float, own_ms: float, floor: float | None) -> Figure:
    """Return a ratio of times, with its floor where it has one."""
    ratio = fp32_ms / own_ms
    return Figure(
        promise=promise,
        measured=f"{ratio:.2f} times as fast ({own_ms:.2f} ms, fp32 {fp32_ms:.2f})",
        target="" if floor is None else f"{floor} times",
        met=None if floor is None else ratio >= floor,
    )


def pair_figures(name: str, artifact: Path, report: VariantReport, sources: Sequence[Any]) -> list[Figure]:
    """Return the flips and the speed of int8+fp32 where it is offered, in turns with fp32; else both numbers."""
    deferral, ratio = report.approximation.deferral, report.pair_ratio
    assert deferral is not None, report
    assert ratio is not None, report
    in_batches = ratio if report.batches is None else report.batches.pair
    found = f"{deferral.share:.1%} of {deferral.inputs} run again, {deferral.flips} flips, {ratio:.2f} times as fast"
    figure = Figure(
        promise=f"{name}, int8+fp32: offered without flips and {LEAST_SPEED:g} times as fast, else refused",
        measured=f"{'offered' if deferral.offered else 'refused'}: {found}",
        target="",
        met=deferral.offered == (not deferral.flips and min(ratio, in_batches) >= LEAST_SPEED),
    )
    batches = report.batches
    figures = [figure] if batches is None else [figure, batch_figure(name, batches, offered=deferral.offered)]
    if not deferral.offered:
        return figures
    models = [
        runtime.load(artifact, precision=precision, device="cpu", threads=1) for precision in ("fp32", "int8+fp32")
    ]
    prepared = [models[0].prepare(source) for source in sources]
    arrays = [models[0].stack([value]) for value in prepared]

    def run_all(model: runtime.Model) -> None:
        for values in arrays:
            model.run(values)

    times = median_ms([lambda model=model: run_all(model) for model in models], ROUNDS)
    return [*figures, ratio_figure(f"{name}, int8+fp32 on {len(sources)} whole inputs", *times, LEAST_SPEED)]


def batch_figure(name: str, batches: BatchSpeed, *, offered: bool) -> Figure:
    """Return how fast int8+fp32 is in batches, where inputs of its kind run so."""
    return Figure(
        promise=f"{name}, int8+fp32 in batches of {batches.batch}",
        measured=f"{batches.pair:.2f} times as fast, int8 alone {batches.own:.2f}",
        target=f"{LEAST_SPEED} times" if offered else "",
        met=batches.pair >= LEAST_SPEED if offered else None,
    )


def size_figure(name: str, report: VariantReport) -> Figure:
    """Return what a variant adds to the artifact, as a share of the weights of fp32."""
    share = report.size_bytes / report.fp32_size_bytes
    return Figure(
        promise=f"{name}: int8 adds",
        measured=f"{share:.1%} of the weights ({report.size_bytes / 1e6:.1f} MB)",
        target=f"{ADDED:.0%}",
        met=share <= ADDED,
    )


PARTS: dict[str, Part] = {
    "resnet18": measure_resnet18,
    "efficientnet": measure_efficientnet,
    "text": measure_text,
}

"""Faults of what is compared whole: things that no input of the gate shows, and options that differ from the export."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from mutation.in_artifacts import edit_weights
from mutation.planting import Planting, change_constant, fault

from exporter.options.task import TaskOptions
from runtime.manifest import Value


def edit_tokenizer(planting: Planting, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the tokenizer of an artifact that passed."""

    def edit(folder: Path) -> None:
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        change(tokenizer)
        path.write_text(json.dumps(tokenizer))

    planting.artifact(edit)


@fault("network", subject="photo", whole=True)
def some_weights_of_a_layer_a_thousandth_off(planting: Planting) -> None:
    """The weights of the next checkpoint of a converged run: they look equal, and scores hardly move."""

    def change(array: Any) -> Any:
        array[500:560] *= np.float32(1.001)
        return array

    planting.artifact(lambda folder: edit_weights(folder, change))


@fault("network", subject="text", whole=True)
def last_bit_of_one_weight(planting: Planting) -> None:
    """One weight was rounded once more by a tool in between."""

    def round_again(rows: Any) -> Any:
        rows = rows.copy()
        rows.flat[0] = np.nextafter(rows.flat[0], np.float32(np.inf))
        return rows

    def change(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        change_constant(model, "tokens.weight", round_again)
        onnx.save(model, folder / "model.onnx")

    planting.artifact(change)


@fault("network", subject="text", whole=True)
def one_row_of_an_embedding_from_another_epoch(planting: Planting) -> None:
    """A rare word's vector is an earlier checkpoint's: no text of the gate has the word."""

    def change(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        change_constant(model, "tokens.weight", lambda rows: np.concatenate([rows[:-1], rows[-1:] * np.float32(0.5)]))
        onnx.save(model, folder / "model.onnx")

    planting.artifact(change)


@fault("labels", subject="photo", whole=True)
def a_label_spelled_otherwise(planting: Planting) -> None:
    """A label was corrected in the artifact, and whatever counts by name no longer finds it."""

    def change(folder: Path) -> None:
        first, *others = (folder / "labels.txt").read_text().splitlines()
        (folder / "labels.txt").write_text("".join(f"{label}\n" for label in (f"{first}s", *others)))

    planting.artifact(change)


@fault("tokens", subject="text", whole=True)
def a_normalizer_added(planting: Planting) -> None:
    """NFKC before lower-casing: only full-width letters and ligatures show it."""
    added = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}
    edit_tokenizer(planting, lambda tokenizer: tokenizer.update(normalizer=added))


@fault("tokens", subject="text", whole=True)
def a_rare_token_added(planting: Planting) -> None:
    """A placeholder was added to the tokenizer after training."""
    token = {"id": 4, "content": "<url>", "special": False} | dict.fromkeys(
        ("single_word", "lstrip", "rstrip", "normalized"), False
    )
    edit_tokenizer(planting, lambda tokenizer: tokenizer["added_tokens"].append(token))


@fault("tokens", subject="text", whole=True)
def two_rare_words_swapped(planting: Planting) -> None:
    """A vocabulary was written again from a set: two words that no text of the gate has trade numbers."""

    def change(tokenizer: dict[str, Any]) -> None:
        words = tokenizer["model"]["vocab"]
        words["Good"], words["It"] = words["It"], words["Good"]

    edit_tokenizer(planting, change)


@fault("decode", subject="photo", whole=True)
def exported_without_the_EXIF_that_training_had(planting: Planting) -> None:  # noqa: N802
    """--exif was forgotten at the export, and is stated to parity."""
    planting.state(exif=True)


@fault("activation", subject="photo", whole=True)
def exported_for_another_task(planting: Planting) -> None:
    """The classes exclude each other in the artifact, and not in training."""
    planting.state(task_options=TaskOptions(task="multilabel"))


@fault("labels", subject="photo", whole=True)
def labels_stated_in_another_order(planting: Planting) -> None:
    """The label file changed between the export and the check."""
    planting.state(labels=("rocket", "cat", "coffee", "astronaut"))


@fault("labels", subject="photo, several labels", whole=True)
def one_threshold_of_another_run(planting: Planting) -> None:
    """A class's threshold was chosen again, and the artifact has the old one."""
    planting.state(task_options=TaskOptions(thresholds=(0.3, 0.5, 0.6, 0.45)))


@fault("activation", subject="row to values", whole=True)
def mean_of_another_training_set(planting: Planting) -> None:
    """The target's mean is that of last month's rows."""
    planting.state(task_options=TaskOptions(target_mean=(101.0, 20.0)))


@fault("labels", subject="row to values", whole=True)
def a_value_in_another_unit(planting: Planting) -> None:
    """The numbers are euros, and training's were dollars."""
    planting.state(task_options=TaskOptions(values=(Value(name="price", unit="USD"), Value(name="area", unit="m2"))))


@fault("tokens", subject="text", whole=True)
def cut_at_another_length_than_stated(planting: Planting) -> None:
    """Training cut texts to 20 tokens, and the export took the tokenizer's length."""
    planting.state(max_length=20)

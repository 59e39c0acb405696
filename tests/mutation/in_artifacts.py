"""Faults that come into an artifact after it was proven: edits whose hashes were made to fit, and files left behind."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from mutation.planting import Planting, change_constant, edit_manifest, fault

from runtime.artifact.golden import GoldenCase, GoldenSet, golden_to_npz, read_golden

PHOTO = "photo"


def edit_graphs(folder: Path, change: Any) -> None:
    """Change both graphs, without looking into their weights file."""
    for name in ("model.onnx", "network.onnx"):
        model = onnx.load(folder / name, load_external_data=False)
        change(model)
        (folder / name).write_bytes(model.SerializeToString())


def edit_weights(folder: Path, change: Any) -> None:
    """Change weights.bin as float32 numbers."""
    data = np.frombuffer((folder / "weights.bin").read_bytes(), dtype=np.float32).copy()
    (folder / "weights.bin").write_bytes(change(data).tobytes())


@fault("network", subject=PHOTO)
def weights_edited(planting: Planting) -> None:
    """Somebody fine-tuned weights.bin in place, and recomputed the hashes."""
    planting.artifact(lambda folder: edit_weights(folder, lambda array: array * np.float32(1.01)))


@fault("network", subject=PHOTO)
def one_bit_flipped_under_its_hash(planting: Planting) -> None:
    """A bit flipped on a disk before the artifact was copied and hashed again."""

    def flip(array: Any) -> Any:
        place = int(np.argmax(np.abs(array)))
        array.view(np.uint32)[place] ^= np.uint32(1 << 23)
        return array

    planting.artifact(lambda folder: edit_weights(folder, flip))


@fault("hashes", subject=PHOTO)
def a_byte_changed(planting: Planting) -> None:
    """A damaged copy: its hash does not fit."""

    def damage(folder: Path) -> None:
        edit_weights(folder, lambda array: array * np.float32(1.01))
        (folder / "keep-hashes").touch()

    planting.artifact(damage)


@fault("network", subject=PHOTO)
def graph_edited(planting: Planting) -> None:
    """A bias was corrected by hand in both graphs."""
    planting.artifact(
        lambda folder: edit_graphs(
            folder, lambda model: change_constant(model, "square.bias", lambda array: array + np.float32(0.05))
        )
    )


@fault("arithmetic", "end to end", subject=PHOTO)
def one_graph_edited(planting: Planting) -> None:
    """network.onnx was built again with other means; model.onnx is the old one."""

    def change(folder: Path) -> None:
        model = onnx.load(folder / "network.onnx", load_external_data=False)
        change_constant(model, "arithmetic/mean", lambda array: array + np.float32(0.02))
        (folder / "network.onnx").write_bytes(model.SerializeToString())

    planting.artifact(change)


@fault("geometry", "arithmetic", "end to end", subject=PHOTO)
def whole_graph_edited(planting: Planting) -> None:
    """model.onnx alone was edited: the server never runs it, and every other runtime does."""

    def change(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        change_constant(model, "arithmetic/std", lambda array: array * np.float32(1.05))
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    planting.artifact(change)


@fault("labels", subject=PHOTO)
def labels_edited(planting: Planting) -> None:
    """labels.txt was sorted in an editor, its hash recomputed."""

    def sort(folder: Path) -> None:
        words = (folder / "labels.txt").read_text().split()
        (folder / "labels.txt").write_text("".join(f"{word}\n" for word in sorted(words)))

    planting.artifact(sort)


@fault("geometry", "preprocessing", subject=PHOTO)
def crop_edited_in_the_manifest(planting: Planting) -> None:
    """The host follows the manifest: a resize of 36 for 40 there changes what the server serves."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["inputs"][0]["preprocessing"]["geometry"][0]["size"] = 36

    planting.artifact(lambda folder: edit_manifest(folder, change))


@fault("decode", "preprocessing", subject=PHOTO)
def EXIF_switched_on_in_the_manifest(planting: Planting) -> None:  # noqa: N802
    """One word of the manifest turns phone photos."""
    planting.artifact(lambda folder: edit_manifest(folder, lambda manifest: manifest["inputs"][0].update(exif=True)))


@fault("labels", subject="photo, several labels")
def thresholds_edited_in_the_manifest(planting: Planting) -> None:
    """Somebody tuned a threshold in production, in truecopy.json."""
    planting.artifact(
        lambda folder: edit_manifest(folder, lambda manifest: manifest["task"].update(thresholds=[0.9, 0.9, 0.1, 0.1]))
    )


@fault("tokens", subject="text")
def tokenizer_replaced(planting: Planting) -> None:
    """tokenizer.json was updated from the hub, its hash recomputed."""

    def change(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace('"Lowercase"', '"NFC"'))

    planting.artifact(change)


@fault("network", subject="row")
def weights_of_another_row_model(planting: Planting) -> None:
    """Two models of one shape share a deployment folder, and the weights of the wrong one are in it."""

    def change(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        for layer in ("first.weight", "head.weight"):
            change_constant(model, layer, lambda array: array[::-1])
        onnx.save(model, folder / "model.onnx")

    planting.artifact(change)


@fault("golden", subject=PHOTO)
def stale_golden_file(planting: Planting) -> None:
    """golden.npz is of the export before last: the artifact is right, its evidence is not."""

    def change(folder: Path) -> None:
        def older(case: GoldenCase) -> GoldenCase:
            outputs = {name: np.roll(array, 1, axis=-1) for name, array in case.outputs.items()}
            return GoldenCase(source=case.source, prepared=case.prepared, outputs=outputs)

        _rewrite(folder, older)

    planting.artifact(change)


@fault("golden", subject=PHOTO)
def golden_pixels_of_another_transform(planting: Planting) -> None:
    """The golden pixels were prepared by the transform before it was changed."""

    def change(folder: Path) -> None:
        def older(case: GoldenCase) -> GoldenCase:
            prepared = {name: np.roll(array, 1, axis=2) for name, array in case.prepared.items()}
            return GoldenCase(source=case.source, prepared=prepared, outputs=case.outputs)

        _rewrite(folder, older)

    planting.artifact(change)


@fault("golden", subject="row")
def golden_rows_of_another_model(planting: Planting) -> None:
    """The rows' golden file was copied over from the model beside."""

    def change(folder: Path) -> None:
        def older(case: GoldenCase) -> GoldenCase:
            outputs = {name: array[:, ::-1].copy() for name, array in case.outputs.items()}
            return GoldenCase(source=case.source, prepared=case.prepared, outputs=outputs)

        _rewrite(folder, older)

    planting.artifact(change)


@fault("golden", "hashes", subject=PHOTO)
def golden_inputs_thinned(planting: Planting) -> None:
    """All golden inputs but the first were dropped, to make a check at start-up faster; hashes were recomputed."""

    def change(folder: Path) -> None:
        path = folder / "golden.npz"
        path.write_bytes(golden_to_npz(GoldenSet(cases=read_golden(path).cases[:1])))

    planting.artifact(change)


@fault("golden", "hashes", subject=PHOTO)
def limits_widened(planting: Planting) -> None:
    """The limits in the manifest were raised until a faulty device passed 'truecopy verify'."""

    def change(manifest: dict[str, Any]) -> None:
        for kind in ("output_limits", "end_to_end_limits"):
            manifest["golden"][kind] = dict.fromkeys(manifest["golden"][kind], 0.5)

    planting.artifact(lambda folder: edit_manifest(folder, change))


@fault("golden", "hashes", subject=PHOTO)
def limits_removed(planting: Planting) -> None:
    """A tool that rewrites manifests dropped the limits, and with them every comparison of scores."""
    planting.artifact(
        lambda folder: edit_manifest(folder, lambda manifest: manifest["golden"].update(output_limits={}))
    )


@fault("golden", "hashes", subject="tokens, recurrent")
def lengths_promised_by_hand(planting: Planting) -> None:
    """The lengths in truecopy.json were raised to those of production, instead of an export with --lengths."""
    planting.artifact(
        lambda folder: edit_manifest(folder, lambda manifest: manifest["compared"]["length"].update(highest=100_000))
    )


def _rewrite(folder: Path, change: Any) -> None:
    """Write golden.npz with other cases; whatever else it holds stays."""
    path = folder / "golden.npz"
    cases = tuple(change(case) for case in read_golden(path).cases)
    made = golden_to_npz(GoldenSet(cases=cases))
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(io.BytesIO(made)) as after:
        others = {name: before.read(name) for name in set(before.namelist()) - set(after.namelist())}
    path.write_bytes(made)
    with zipfile.ZipFile(path, "a") as archive:
        for name, data in others.items():
            archive.writestr(name, data)

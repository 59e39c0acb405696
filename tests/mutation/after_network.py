"""Faults after the network: activation, a target's scaling, labels and what the runtime makes of the scores."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import onnx
from mutation.planting import Planting, add_constants, fault, insert_after, set_attribute
from onnx import helper

from exporter.outputs.postprocessing import Postprocessing
from runtime.manifest import Affine, Regress
from runtime.outputs.classify import ClassifyInterpreter
from runtime.outputs.segment import Segmentation, SegmentInterpreter

PHOTO = "photo"


def at_end(planting: Planting, change: Callable[[onnx.ModelProto, onnx.NodeProto], None]) -> None:
    """Change the graphs' last node."""

    def changed(model: onnx.ModelProto) -> None:
        (name,) = (value.name for value in model.graph.output)
        change(model, next(node for node in model.graph.node if name in node.output))

    planting.assembled(changed)


# --- activation ---


@fault("activation", subject=PHOTO)
def softmax_missing(planting: Planting) -> None:
    """CrossEntropyLoss has its own softmax, so the forward has none: logits are served as probabilities."""
    planting.postprocessing(lambda postprocessing: replace(postprocessing, activation="none"))


@fault("activation", subject=PHOTO)
def softmax_twice(planting: Planting) -> None:
    """The model's wrapper and the server both apply it: flat probabilities, the same label."""
    at_end(
        planting,
        lambda model, node: insert_after(
            model, node.output[0], lambda given, wanted: [helper.make_node("Softmax", [given], [wanted], axis=-1)]
        ),
    )


@fault("activation", subject=PHOTO)
def sigmoid_for_softmax(planting: Planting) -> None:
    """One class of several is served as several labels are."""
    planting.postprocessing(lambda postprocessing: replace(postprocessing, activation="sigmoid"))


@fault("activation", subject=PHOTO)
def logarithms_of_probabilities(planting: Planting) -> None:
    """log_softmax, as NLLLoss wants it."""
    at_end(planting, lambda _, node: setattr(node, "op_type", "LogSoftmax"))


@fault("activation", subject=PHOTO)
def softmax_over_the_batch(planting: Planting) -> None:
    """F.softmax(x) without a dimension chose 0 for some shapes: each class sums to one over the photos."""
    at_end(planting, lambda _, node: set_attribute(node, "axis", 0))


@fault("activation", subject=PHOTO)
def temperature_applied_twice(planting: Planting) -> None:
    """The calibrated temperature is in the graph, and the checkpoint's head had it already."""

    def change(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
        add_constants(model, temperature=np.float32(1.3))
        place = list(model.graph.node).index(node)
        model.graph.node.insert(
            place, helper.make_node("Div", [node.input[0], "temperature"], ["postprocessing/cooled"])
        )
        node.input[0] = "postprocessing/cooled"

    at_end(planting, change)


@fault("activation", subject="photo, several labels")
def softmax_for_sigmoid(planting: Planting) -> None:
    """Several labels may hold, and softmax makes them fight for one."""
    planting.postprocessing(lambda postprocessing: replace(postprocessing, activation="softmax"))


@fault("activation", subject="photo, several labels")
def sigmoid_twice(planting: Planting) -> None:
    """BCELoss wants a sigmoid in the forward, BCEWithLogitsLoss does not; both are there."""
    at_end(
        planting,
        lambda model, node: insert_after(
            model, node.output[0], lambda given, wanted: [helper.make_node("Sigmoid", [given], [wanted])]
        ),
    )


@fault("activation", subject="photo, yes or no")
def yes_and_no_swapped(planting: Planting) -> None:
    """The one logit is for the other class than the first label."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = [node for node in model.graph.node if node.name.startswith("postprocessing/Concat")]
        node.input[:] = list(reversed(node.input))

    planting.assembled(change)


@fault("activation", subject="photo, every place")
def softmax_over_the_columns(planting: Planting) -> None:
    """dim=-1, right for classes that come last, runs along a map's columns."""
    at_end(planting, lambda _, node: set_attribute(node, "axis", -1))


def undoing(planting: Planting, change: Callable[[Affine], Affine]) -> None:
    """Undo the target's scaling otherwise."""

    def changed(postprocessing: Postprocessing) -> Postprocessing:
        assert isinstance(postprocessing.task, Regress)
        (line,) = postprocessing.task.inverse_transform
        assert isinstance(line, Affine)
        return replace(
            postprocessing, task=msgspec.structs.replace(postprocessing.task, inverse_transform=(change(line),))
        )

    planting.postprocessing(changed)


@fault("activation", subject="row to values")
def target_left_scaled(planting: Planting) -> None:
    """The regression's target was standardised for training, and its inverse is forgotten."""
    undoing(planting, lambda _: Affine(scale=(1.0, 1.0), offset=(0.0, 0.0)))


@fault("activation", subject="row to values")
def target_scaled_by_the_variance(planting: Planting) -> None:
    """scaler.var_ where scaler.scale_ is meant."""
    undoing(planting, lambda line: Affine(scale=tuple(one**2 for one in line.scale), offset=line.offset))


@fault("activation", subject="row to values")
def target_without_its_mean(planting: Planting) -> None:
    """Multiplied back by the deviation; the mean is forgotten."""
    undoing(planting, lambda line: Affine(scale=line.scale, offset=(0.0, 0.0)))


@fault("activation", subject="row to values")
def targets_swapped(planting: Planting) -> None:
    """The statistics of two targets are exchanged."""
    undoing(planting, lambda line: Affine(scale=line.scale[::-1], offset=line.offset[::-1]))


# --- labels ---


@fault("labels", subject=PHOTO)
def labels_shifted_by_one(planting: Planting) -> None:
    """TensorFlow's lists begin with 'background', torch's do not."""
    planting.written("labels.txt", lambda data: _lines("background", *data.decode().split()[:-1]))


@fault("labels", subject=PHOTO)
def labels_in_alphabetical_order(planting: Planting) -> None:
    """ImageFolder sorts the folders' names; the list was in the order of the annotations."""
    planting.written("labels.txt", lambda data: _lines(*sorted(data.decode().split())))


@fault("labels", subject=PHOTO)
def two_labels_swapped(planting: Planting) -> None:
    """Two lines of names.txt are exchanged, the weights are right."""

    def swap(data: bytes) -> bytes:
        first, second, *rest = data.decode().split()
        return _lines(second, first, *rest)

    planting.written("labels.txt", swap)


@fault("labels", subject=PHOTO)
def least_likely_class(planting: Planting) -> None:
    """argsort()[:k] sorts upwards."""
    interpret = ClassifyInterpreter.interpret
    planting.host(
        ClassifyInterpreter,
        "interpret",
        lambda interpreter, scores, **options: interpret(interpreter, -scores, **{**options, "threshold": -1e9}),
    )


@fault("labels", subject="photo, several labels")
def thresholds_forgotten(planting: Planting) -> None:
    """Each class's threshold was chosen on validation data; the service takes 0.5 for all."""
    planting.manifest(
        lambda manifest: msgspec.structs.replace(
            manifest, task=msgspec.structs.replace(manifest.task, thresholds=(0.5,) * 4)
        )
    )


@fault("labels", subject="row to values")
def names_of_values_swapped(planting: Planting) -> None:
    """The numbers are right, and the one's name stands on the other."""
    planting.manifest(
        lambda manifest: msgspec.structs.replace(
            manifest,
            task=msgspec.structs.replace(manifest.task, values=manifest.task.values[::-1]),  # type: ignore[union-attr]
        )
    )


@fault("labels", subject="photo, every place")
def argmax_over_the_wrong_dimension(planting: Planting) -> None:
    """argmax(-1) on [classes, height, width]: a map of columns, not of classes."""

    def wrong(interpreter: SegmentInterpreter, scores: Any, *, name: str, **_: Any) -> Segmentation:
        columns = np.argmax(scores, axis=-1)[:, :, np.newaxis] % len(interpreter.labels)
        return Segmentation(input=name, label_map=np.resize(columns, scores.shape[1:]), shares={})

    planting.host(SegmentInterpreter, "interpret", wrong)


@fault("labels", subject="photo, every place")
def map_transposed(planting: Planting) -> None:
    """The map's rows and columns are exchanged on the way to the picture; the map is square."""
    interpret = SegmentInterpreter.interpret

    def turned(interpreter: SegmentInterpreter, scores: Any, **options: Any) -> Segmentation:
        result = interpret(interpreter, scores, **options)
        return msgspec.structs.replace(result, label_map=result.label_map.T)

    planting.host(SegmentInterpreter, "interpret", turned)


@fault("labels", "network", subject="tokens to tokens")
def end_token_forgotten(planting: Planting) -> None:
    """What follows the end token in a batch is spelt out, too."""
    planting.manifest(
        lambda manifest: msgspec.structs.replace(manifest, task=msgspec.structs.replace(manifest.task, end_id=None))
    )


def _lines(*words: str) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()

"""Faults of photos before the network: what is decoded, resized, cropped and normalized."""

import io
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnx
from mutation.planting import Planting, add_constants, fault, insert_after, nodes_of, set_attribute
from onnx import TensorProto, helper
from PIL import Image, ImageOps

from exporter.inputs.image import Geometry
from exporter.inputs.image import adapter as images
from exporter.inputs.image.steps import grayscale
from runtime.geometry import sizes
from runtime.geometry.steps import grayscale as host_grayscale
from runtime.geometry.steps import resize as host_resize
from runtime.inputs.image import decoder as decode
from runtime.manifest import CenterCrop, Grayscale, ImageInput, KeepRatio, Normalize, Preprocessing, Resize, ToFloat

PHOTO = "photo"


def decoded(planting: Planting, change: Callable[[Image.Image, ImageInput], Image.Image]) -> None:
    """Make the runtime's decoder change an opened image before it is converted to the network's mode."""
    load = decode._load

    def changed(image: Image.Image, spec: ImageInput, subject: str) -> Any:
        return load(change(image, spec), spec, subject)

    planting.host(decode, "_load", changed)


def resize(planting: Planting, **changes: Any) -> None:
    """Fold another resize in."""
    planting.steps(
        lambda steps: msgspec.structs.replace(
            steps,
            geometry=tuple(
                msgspec.structs.replace(step, **changes) if isinstance(step, Resize) else step
                for step in steps.geometry
            ),
        )
    )


def arithmetic(planting: Planting, *steps: ToFloat | Normalize) -> None:
    """Fold other arithmetic in."""
    planting.steps(lambda own: msgspec.structs.replace(own, arithmetic=steps))


# --- decode ---


@fault("decode", subject=PHOTO)
def channels_in_BGR(planting: Planting) -> None:  # noqa: N802  # as everybody writes it
    """OpenCV's imread gives BGR, and a service that reads with it forgets to turn the channels."""
    load = decode._load

    def changed(image: Image.Image, spec: ImageInput, subject: str) -> Any:
        red, green, blue = load(image, spec, subject).image.split()
        return decode.DecodedImage(image=Image.merge("RGB", (blue, green, red)), turned=False)

    planting.host(decode, "_load", changed)


@fault("decode", subject=PHOTO)
def turned_by_EXIF(planting: Planting) -> None:  # noqa: N802
    """The service turns phone photos upright; torchvision's ImageFolder, which trained on them, does not."""
    decoded(planting, lambda image, _: ImageOps.exif_transpose(image))


@fault("decode", subject="photo, turned by EXIF")
def not_turned_by_EXIF(planting: Planting) -> None:  # noqa: N802
    """Training turned photos upright, and the service's Image.open alone does not."""
    load = decode._load
    planting.host(
        decode,
        "_load",
        lambda image, spec, subject: load(image, msgspec.structs.replace(spec, exif=False), subject),
    )


@fault("decode", subject=PHOTO)
def alpha_over_white(planting: Planting) -> None:
    """A web front end flattens transparent PNGs over white; convert('RGB') in training dropped the alpha."""

    def flatten(image: Image.Image, _: ImageInput) -> Image.Image:
        if image.mode != "RGBA":
            return image
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")

    decoded(planting, flatten)


@fault("decode", subject=PHOTO)
def CMYK_inverted(planting: Planting) -> None:  # noqa: N802
    """Adobe's CMYK JPEGs are stored inverted: libraries disagree on whether to undo it."""
    decoded(planting, lambda image, _: image.point(lambda value: 255 - value) if image.mode == "CMYK" else image)


@fault("decode", subject=PHOTO)
def palette_as_gray(planting: Planting) -> None:
    """The numbers of a palette's colors are taken for gray levels, as np.asarray(Image.open(...)) gives them."""
    decoded(
        planting,
        lambda image, _: Image.fromarray(np.asarray(image)).convert("RGB") if image.mode == "P" else image,
    )


@fault("decode", subject=PHOTO)
def sixteen_bits_scaled(planting: Planting) -> None:
    """OpenCV scales 16-bit images to 8 bits; Pillow's convert('RGB') cuts them off at 255."""

    def scale(image: Image.Image, _: ImageInput) -> Image.Image:
        if not image.mode.startswith("I"):
            return image
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))

    decoded(planting, scale)


@fault("decode", subject=PHOTO)
def decoded_at_half_size(planting: Planting) -> None:
    """JPEG's draft mode, which thumbnail() and fast decoders use, gives the photo at half size."""

    def draft(image: Any, _: ImageInput) -> Image.Image:
        if getattr(image, "format", "") == "JPEG":
            image.draft("RGB", (image.width // 2, image.height // 2))
        return image

    decoded(planting, draft)


@fault("decode", subject=PHOTO)
def compressed_again(planting: Planting) -> None:
    """An upload service stores photos as JPEG of quality 75 before the model sees them."""

    def compress(image: Image.Image, _: ImageInput) -> Image.Image:
        stream = io.BytesIO()
        image.convert("RGB").save(stream, "JPEG", quality=75)
        return Image.open(io.BytesIO(stream.getvalue()))

    decoded(planting, compress)


# --- geometry ---


@fault("geometry", subject=PHOTO)
def resized_to_the_nearest(planting: Planting) -> None:
    """cv2.resize with INTER_NEAREST, or a mobile library's default."""
    resize(planting, interpolation="nearest")


@fault("geometry", subject=PHOTO)
def bicubic_for_bilinear(planting: Planting) -> None:
    """timm's default is bicubic, torchvision's bilinear: the one model's transform for the other."""
    resize(planting, interpolation="bicubic")


@fault("geometry", subject=PHOTO)
def resized_without_antialias(planting: Planting) -> None:
    """torch.nn.functional.interpolate stands in for Pillow's resize, which always smooths."""
    resize(planting, implementation="torch", antialias=False)


@fault("geometry", subject=PHOTO)
def resized_as_OpenCV_does(planting: Planting) -> None:  # noqa: N802
    """cv2.resize with INTER_LINEAR for Pillow's bilinear: no smoothing, other weights."""
    resize(planting, implementation="opencv", antialias=False)


@fault("geometry", subject=PHOTO)
def resized_as_a_tensor(planting: Planting) -> None:
    """The same transform, but on a uint8 tensor: torchvision's other kernel, a gray level off here and there."""
    resize(planting, implementation="torch")


@fault("geometry", subject=PHOTO)
def axes_in_the_older_order(planting: Planting) -> None:
    """Pillow 13 resizes tall images' rows first, Pillow 12 never did: a gray level off on a few photos."""
    resize(planting, axis_order="horizontal_first")


@fault("geometry", subject=PHOTO)
def resized_to_the_crop(planting: Planting) -> None:
    """The crop's share is forgotten: the short side is resized to 32 where training had 40 and then cut."""
    resize(planting, size=32)


@fault("geometry", subject=PHOTO)
def squashed_not_cropped(planting: Planting) -> None:
    """Resize((32, 32)) where training kept the ratio and cropped: what most hand-written services do."""
    planting.steps(
        lambda steps: msgspec.structs.replace(
            steps, geometry=(msgspec.structs.replace(steps.geometry[0], size=(32, 32)),)
        )
    )


@fault("geometry", subject=PHOTO)
def letterboxed_not_cropped(planting: Planting) -> None:
    """The detector's letterbox is reused for the classifier."""
    box = KeepRatio(height=32, width=32, side="inside", arithmetic="divide")
    planting.steps(
        lambda steps: msgspec.structs.replace(
            steps, geometry=(msgspec.structs.replace(steps.geometry[0], size=box), *steps.geometry[1:])
        )
    )


@fault("geometry", subject=PHOTO)
def crop_rounded_down(planting: Planting) -> None:
    """(size - crop) // 2 where torchvision rounds half to even: the crop is one pixel off for some sizes."""
    planting.steps(
        lambda steps: msgspec.structs.replace(
            steps,
            geometry=tuple(
                msgspec.structs.replace(step, rounding="down") if isinstance(step, CenterCrop) else step
                for step in steps.geometry
            ),
        )
    )


@fault("geometry", subject=PHOTO)
def crop_rounded_down_in_the_graph_alone(planting: Planting) -> None:
    """The graph's integer division floors, the host's round() does not."""
    write = images.geometry_nodes

    def changed(steps: Preprocessing, **names: Any) -> Any:
        cut = tuple(
            msgspec.structs.replace(step, rounding="down") if isinstance(step, CenterCrop) else step
            for step in steps.geometry
        )
        return write(msgspec.structs.replace(steps, geometry=cut), **names)

    planting.replace(images, "geometry_nodes", changed)


@fault("geometry", subject=PHOTO)
def cropped_from_the_corner(planting: Planting) -> None:
    """image[:32, :32] in the service's preprocessing."""
    planting.host(sizes, "crop_origin", lambda *_: 0)


@fault("geometry", subject=PHOTO)
def long_side_rounded(planting: Planting) -> None:
    """round(40 * long / short) on the host where torchvision truncates: a column more, and the crop moves."""

    def rounded(height: int, width: int, step: Resize) -> tuple[int, int]:
        assert isinstance(step.size, int)
        short = min(height, width)
        return round(step.size * height / short), round(step.size * width / short)

    planting.host(host_resize, "resized_size", rounded)


@fault("geometry", subject=PHOTO)
def height_and_width_swapped_in_the_graph(planting: Planting) -> None:
    """A permutation of NHWC and NCHW with height and width exchanged; the crop is square, so no shape complains."""

    def change(model: onnx.ModelProto) -> None:
        for node in nodes_of(model, "Transpose"):
            if node.output[0] == "pixels":
                set_attribute(node, "perm", [0, 3, 2, 1])

    planting.assembled(change)


@fault("geometry", subject=PHOTO)
def another_resize_in_TorchScript_alone(planting: Planting) -> None:  # noqa: N802
    """The libtorch build has a hand-written resize of its own."""

    def nearest(steps: Preprocessing) -> Geometry:
        resize = msgspec.structs.replace(steps.geometry[0], interpolation="nearest")
        return Geometry(msgspec.structs.replace(steps, geometry=(resize, *steps.geometry[1:])))

    planting.replace(images, "Geometry", nearest)


@fault("geometry", subject="photo, gray")
def gray_of_another_standard(planting: Planting) -> None:
    """scikit-image's rgb2gray weighs by BT.709, Pillow and OpenCV by BT.601."""
    planting.replace(grayscale, "_LUMA", (13933, 46871, 4732))


@fault("geometry", subject="photo, gray")
def gray_as_the_mean_of_the_channels(planting: Planting) -> None:
    """image.mean(axis=2) on the host."""

    def changed(image: Image.Image, step: Grayscale) -> Image.Image:
        gray = Image.fromarray(np.asarray(image).astype(np.float32).mean(axis=2).round().astype(np.uint8))
        return gray if step.channels == 1 else Image.merge("RGB", (gray, gray, gray))

    planting.host(host_grayscale, "run_on_image", changed)


# --- arithmetic ---


@fault("arithmetic", subject=PHOTO)
def statistics_of_ImageNet(planting: Planting) -> None:  # noqa: N802
    """ImageNet's mean and std, copied from a tutorial, for a model that was trained with its own."""
    arithmetic(planting, ToFloat(divisor=255.0), Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)))


@fault("arithmetic", subject=PHOTO)
def statistics_in_BGR_order(planting: Planting) -> None:  # noqa: N802
    """Caffe's order of the means for RGB channels."""
    arithmetic(planting, ToFloat(divisor=255.0), Normalize(mean=(0.35, 0.40, 0.45), std=(0.20, 0.22, 0.25)))


@fault("arithmetic", subject=PHOTO)
def minus_one_to_one(planting: Planting) -> None:
    """(x - 127.5) / 127.5, TensorFlow's habit."""
    arithmetic(planting, ToFloat(divisor=255.0), Normalize(mean=(0.5,) * 3, std=(0.5,) * 3))


@fault("arithmetic", subject=PHOTO)
def not_divided_by_255(planting: Planting) -> None:
    """ToTensor's division is forgotten, as torch.from_numpy makes none."""
    arithmetic(planting, ToFloat(divisor=1.0), Normalize(mean=(0.45, 0.40, 0.35), std=(0.25, 0.22, 0.20)))


@fault("arithmetic", subject=PHOTO)
def divided_by_255_twice(planting: Planting) -> None:
    """Once in the service, and once more in the graph."""
    arithmetic(planting, ToFloat(divisor=65025.0), Normalize(mean=(0.45, 0.40, 0.35), std=(0.25, 0.22, 0.20)))


@fault("arithmetic", subject=PHOTO)
def divided_by_256(planting: Planting) -> None:
    """A shift by 8 bits in a fixed-point implementation."""
    arithmetic(planting, ToFloat(divisor=256.0), Normalize(mean=(0.45, 0.40, 0.35), std=(0.25, 0.22, 0.20)))


@fault("arithmetic", subject=PHOTO)
def not_normalized(planting: Planting) -> None:
    """The service has ToTensor alone, and training had Normalize behind it."""
    arithmetic(planting, ToFloat(divisor=255.0))


@fault("arithmetic", subject=PHOTO)
def normalized_twice(planting: Planting) -> None:
    """The transform normalizes, and the exported wrapper normalizes again."""
    own = Normalize(mean=(0.45, 0.40, 0.35), std=(0.25, 0.22, 0.20))
    arithmetic(planting, ToFloat(divisor=255.0), own, own)


@fault("arithmetic", subject=PHOTO)
def multiplied_by_the_deviation(planting: Planting) -> None:
    """Normalization undone where it should be done: x * std + mean's sign and factor confused."""
    arithmetic(planting, ToFloat(divisor=255.0), Normalize(mean=(0.45, 0.40, 0.35), std=(4.0, 4.5, 5.0)))


@fault("arithmetic", subject=PHOTO)
def statistics_in_gray_levels(planting: Planting) -> None:
    """mean * 255 and std * 255, subtracted after the division by 255."""
    arithmetic(planting, ToFloat(divisor=255.0), Normalize(mean=(114.75, 102.0, 89.25), std=(63.75, 56.1, 51.0)))


@fault("arithmetic", subject=PHOTO)
def normalized_in_half_precision(planting: Planting) -> None:
    """The input tensor is made float16 to save bandwidth."""

    def halve(given: str, wanted: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Cast", [given], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["half"], [wanted], to=TensorProto.FLOAT),
        ]

    planting.assembled(lambda model: insert_after(model, "arithmetic/Sub_3", halve))


@fault("arithmetic", subject=PHOTO)
def channels_reversed_in_the_graph(planting: Planting) -> None:
    """A converter from OpenCV code leaves its cvtColor in the graph."""

    def change(model: onnx.ModelProto) -> None:
        add_constants(model, reversed=np.array([2, 1, 0]))
        insert_after(
            model,
            "arithmetic/Cast_1",
            lambda given, wanted: [helper.make_node("Gather", [given, "reversed"], [wanted], axis=1)],
        )

    planting.assembled(change)


@fault("arithmetic", subject=PHOTO)
def reshaped_not_transposed(planting: Planting) -> None:
    """x.reshape(1, 3, height, width) for a channels-last image: same shape, colors as stripes."""

    def change(model: onnx.ModelProto) -> None:
        add_constants(model, channels_first=np.array([0, 3, 32, 32]))
        node = next(node for node in model.graph.node if node.output[0] == "arithmetic/Transpose_0")
        node.CopyFrom(helper.make_node("Reshape", [node.input[0], "channels_first"], list(node.output)))

    planting.assembled(change)

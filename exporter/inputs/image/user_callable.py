"""A user's own preprocessing as a function of images: how it is called, and what it gives.

Scripts take a PIL image, an array as OpenCV or albumentations has it, a file's bytes, or its path. Which of these, is
found by the name and annotation of the parameter, and by trying.
"""

import inspect
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from exporter.errors import PreprocessingError, first_line
from exporter.inputs.image.hugging_face import as_function, backend_of, load_processor
from exporter.object_path import is_reference, load_object

# What a callable may take, in the order in which it is tried.
FORMS = ("PIL images", "RGB arrays", "BGR arrays", "paths of files", "bytes of files")
ARRAY_FORMS, FILE_FORMS = FORMS[1:3], FORMS[3:]

# Keys under which dictionaries hold the result: albumentations' and transformers'.
_RESULT_KEYS = ("image", "pixel_values", "img")


@dataclass(frozen=True, kw_only=True)
class UserCallable:
    """A callable from an image to the network's input, which takes ``form``, as the keyword ``image`` if so."""

    function: Callable[..., Any]
    origin: str
    form: str
    by_keyword: bool = False

    def __call__(self, source: Image.Image | bytes) -> torch.Tensor:
        """Return the network's input, float32 [channels, height, width]; of a file's bytes where it takes files.

        Raises whatever the function raises, and PreprocessingError where it gives no such array.
        """
        if isinstance(source, bytes) and self.form not in FILE_FORMS:
            source = Image.open(io.BytesIO(source)).convert("RGB")
        if self.form not in FILE_FORMS:
            assert isinstance(source, Image.Image)
            return self._call(self._in_memory(source))
        data = source if isinstance(source, bytes) else _encoded(source)
        if self.form == "bytes of files":
            return self._call(data)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"image.{(Image.open(io.BytesIO(data)).format or 'png').lower()}"
            path.write_bytes(data)
            return self._call(str(path))

    def _in_memory(self, image: Image.Image) -> Any:
        if self.form == "PIL images":
            return image
        array = np.asarray(image)
        return np.ascontiguousarray(array[:, :, ::-1]) if self.form == "BGR arrays" else array.copy()

    def _call(self, argument: Any) -> torch.Tensor:
        result = self.function(image=argument) if self.by_keyword else self.function(argument)
        return _to_tensor(result, self.origin)


def load_callable(preprocess: str | Callable[..., Any], *, trust: bool = False) -> tuple[Callable[..., Any], str]:
    """Return the callable that ``preprocess`` is or names, and its name; a function without parameters makes one.

    A ``FOLDER/preprocessor_config.json`` names transformers' processor, of whatever class. Raises PreprocessingError
    where it is none.
    """
    if not isinstance(preprocess, str):
        return preprocess, getattr(preprocess, "__qualname__", type(preprocess).__name__)
    processor = backend_of(preprocess)
    if processor is not None:
        folder, backend = processor
        return as_function(load_processor(folder, backend, trust=trust)), preprocess
    if not is_reference(preprocess):
        raise PreprocessingError(
            f"'{preprocess}': not a reference: expected 'FILE.py:NAME' or 'package.module:NAME'. Name the transform."
        )
    value = load_object(preprocess, error=PreprocessingError)
    if (inspect.isfunction(value) or inspect.isclass(value)) and not required_parameters(value):
        value = value()
    if not callable(value):
        raise PreprocessingError(
            f"'{preprocess}': not a transform: expected a callable, got {type(value).__name__}. Name the function."
        )
    return value, preprocess


def required_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a function that have no default."""
    return [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def ways_to_call(function: Callable[..., Any], origin: str) -> Iterator[UserCallable]:
    """Yield the callable in each form that it may take; those that its signature speaks of first."""
    hint = _hint(function)
    # One that says which order its arrays have is not called with the other.
    others = set(ARRAY_FORMS) - set(hint) if set(hint) & set(ARRAY_FORMS) else set()
    for form in sorted(set(FORMS) - others, key=lambda form: (form not in hint, FORMS.index(form))):
        for by_keyword in (False, True):
            yield UserCallable(function=function, origin=origin, form=form, by_keyword=by_keyword)


def why_it_fails(function: Callable[..., Any], origin: str, image: Image.Image) -> str:
    """Return the first error of a callable that gives nothing in any form."""
    try:
        next(ways_to_call(function, origin))(image)
    except Exception as error:  # the user's function may raise anything
        return f"{type(error).__name__}: {first_line(error)}"
    return "it gives no array, or another one in each call"


def _hint(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the forms that the first parameter's name or annotation speaks of."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # a builtin without a signature
        return ()
    if not parameters:
        return ()
    text = f"{parameters[0].name} {parameters[0].annotation}".lower()
    if "path" in text or "file" in text or "<class 'str'>" in text:
        return (FORMS[3],)
    if "bytes" in text:
        return (FORMS[4],)
    orders = [form for form, order in zip(ARRAY_FORMS, ("rgb", "bgr"), strict=True) if order in text]
    if orders:
        return tuple(orders)
    return ARRAY_FORMS if "ndarray" in text else ()


def _to_tensor(result: Any, origin: str) -> torch.Tensor:
    if isinstance(result, Mapping):
        result = next((result[key] for key in _RESULT_KEYS if key in result), result)
    if isinstance(result, list | tuple) and len(result) == 1:
        result = result[0]
    values = torch.from_numpy(result) if isinstance(result, np.ndarray) else result
    if isinstance(values, torch.Tensor):
        if values.dim() == 4 and len(values) == 1:
            values = values[0]
        if values.dim() == 3 and values.shape[0] not in (1, 3) and values.shape[2] in (1, 3):
            values = values.permute(2, 0, 1)
        if values.dim() == 3 and values.is_floating_point():
            return values.detach().to(torch.float32).contiguous()
    shape = f"{values.dtype} {list(values.shape)}" if isinstance(values, torch.Tensor) else type(values).__name__
    raise PreprocessingError(
        f"'{origin}': gives no input of a network: expected floats [channels, height, width], got {shape}. Return "
        "these."
    )


def _encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()

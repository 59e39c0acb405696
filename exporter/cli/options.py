"""What the texts of options mean, for the commands that share them."""

import json
from pathlib import Path
from typing import Any

import typer


def read_arguments(pairs: list[str]) -> dict[str, Any]:
    """Return ``key=value`` pairs as keyword arguments; a value that is not JSON is a string."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise typer.BadParameter(f"expected KEY=VALUE, got '{pair}'", param_hint="--arch-arg")
        try:
            arguments[key] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key] = value
    return arguments


def read_lengths(option: str, text: str | None) -> int | tuple[int, int] | None:
    """Return ``256`` as a number and ``256x320`` as a (height, width)."""
    if text is None:
        return None
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) for part in parts):
        raise typer.BadParameter(f"expected a length or HEIGHTxWIDTH, got '{text}'", param_hint=option)
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def read_numbers(option: str, text: str | None) -> list[float] | None:
    """Return numbers with commas between."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected numbers with commas between, got '{text}'", param_hint=option) from None


def read_colors(text: str | None) -> tuple[tuple[int, int, int], ...]:
    """Return the RGB colors that an option names, or a file whose lines do."""
    if text is None:
        return ()
    from PIL import ImageColor

    path = Path(text)
    names = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    try:
        found = [ImageColor.getcolor(name.strip(), "RGB") for name in names if name.strip()]
    except (ValueError, UnicodeDecodeError) as error:
        raise typer.BadParameter(
            f"expected colors such as black or #ff8000 with commas between, or a file with one a line: {error}",
            param_hint="--colors",
        ) from None
    return tuple(found)  # type: ignore[arg-type]  # three numbers, in this mode


def read_plain_transform(numbers: dict[str, Any], interpolation: str, resize_backend: str) -> Any:
    """Return the transform that the plain options spell out, or None where there are none."""
    if all(value is None for value in numbers.values()):
        return None
    from exporter.inputs.image import transform_of_options

    return transform_of_options(**numbers, interpolation=interpolation, resize_backend=resize_backend)

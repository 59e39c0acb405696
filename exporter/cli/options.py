"""Command-line parameters made from the fields of ``ExportOptions``."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import Field, fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from exporter.errors import ExportError
from exporter.recipe import ExportOptions, Option, TaskOptions

Command = Callable[..., Any]


def takes_options(
    select: Callable[[str, Option], bool], *, checkpoint: Any, panel: str | None = None
) -> Callable[[Command], Command]:
    """Return a decorator that gives a command the selected options, as ``options`` of type ExportOptions.

    ``select`` gets each field's name and option. ``checkpoint`` is the annotated type of the checkpoint's own
    parameter; where that is optional and left out, ``options`` is None. ``panel`` replaces the panels of the help.
    """

    def decorate(command: Command) -> Command:
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command, eval_str=True).parameters.values()
            if parameter.name != "options"
        ]
        chosen = {about.name: about for about in option_fields() if select(about.name, about.metadata["option"])}

        @functools.wraps(command)
        def run(**arguments: Any) -> Any:
            path: Path | None = arguments.pop("checkpoint")
            texts = {name: arguments.pop(name) for name in chosen}
            options = None if path is None else _read_options(path, chosen, texts)
            return command(**arguments, options=options)

        optional = type(None) in get_args(get_args(checkpoint)[0])
        source = inspect.Parameter(
            "checkpoint",
            inspect.Parameter.KEYWORD_ONLY,
            default=None if optional else inspect.Parameter.empty,
            annotation=checkpoint,
        )
        parameters = [*own[:2], source, *own[2:], *(_parameter(about, panel) for about in chosen.values())]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def named(names: Collection[str]) -> Callable[[str, Option], bool]:
    """Return a selection of the options of these names."""
    return lambda name, _option: name in names


def option_fields() -> Iterator[Field[Any]]:
    """Yield the fields that are options, in the order of the help."""
    for about in fields(ExportOptions):
        if about.name == "task_options":
            yield from fields(TaskOptions)
        elif "option" in about.metadata:
            yield about


def _parameter(about: Field[Any], panel: str | None) -> inspect.Parameter:
    option: Option = about.metadata["option"]
    settings: dict[str, Any] = {"help": option.help, "rich_help_panel": panel or option.panel}
    if option.metavar:
        settings["metavar"] = option.metavar
    if option.minimum is not None:
        settings["min"] = option.minimum
    kind: Any = option.kind
    if option.choices:
        kind = Literal[_choices(option)]  # Typer lists them in help, completion and errors
    # A switch without a default of its own can also be switched off: nothing said is something else.
    kind = kind if kind is bool and about.default is False else kind | None
    default = about.default if isinstance(about.default, str | float | bool) else None
    return inspect.Parameter(
        about.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, typer.Option(_flag(about), **settings)],
    )


def _flag(about: Field[Any]) -> str:
    option: Option = about.metadata["option"]
    name = about.name.replace("_", "-")
    if option.kind is bool and about.default is None:
        return f"--{name}/--no-{name}"
    return option.flag or f"--{name}"


def _choices(option: Option) -> tuple[str, ...]:
    if isinstance(option.choices, tuple):
        return option.choices
    module, _, registry = option.choices.partition(":")
    return tuple(getattr(import_module(module), registry))


def _read_options(checkpoint: Path, chosen: dict[str, Field[Any]], texts: dict[str, Any]) -> ExportOptions:
    """Return the options that the command line gives; an error of theirs is one of usage."""
    given: dict[str, Any] = {}
    for name, value in texts.items():
        option: Option = chosen[name].metadata["option"]
        if value is None or value == chosen[name].default or value == []:
            continue
        try:
            given[name] = option.read(value) if option.read is not None else value
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=_flag(chosen[name])) from None
    try:
        return ExportOptions.from_keywords(checkpoint, given.pop("arch", None), **given)
    except ExportError as error:
        raise typer.BadParameter(str(error)) from None

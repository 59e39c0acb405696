"""Command-line parameters made from the fields of ``ExportOptions``."""

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import Field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from exporter.cli.synonyms import synonyms_of
from exporter.errors import ExportError
from exporter.options.export import ExportOptions
from exporter.options.rules import Option, choices_of, flag_of, option_fields

Command = Callable[..., Any]


def takes_options(
    select: Callable[[str, Option], bool], *, checkpoint: Any, panel: str | None = None, complete: bool = False
) -> Callable[[Command], Command]:
    """Return a decorator that gives a command the selected options, as ``options`` of type ExportOptions.

    ``select`` gets each field's name and option. ``checkpoint`` is the annotated type of the checkpoint's own
    parameter; where that is optional and left out, ``options`` is None. ``panel`` replaces the panels of the help.
    ``complete`` says that the options are all that tells what the model is, and no artifact.
    """

    def decorate(command: Command) -> Command:
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(command, eval_str=True).parameters.values()
            if parameter.name != "options"
        ]
        chosen = {
            about.name: about for about in option_fields(ExportOptions) if select(about.name, about.metadata["option"])
        }

        @functools.wraps(command)
        def run(**arguments: Any) -> Any:
            path: Path | None = arguments.pop("checkpoint")
            texts = {name: arguments.pop(name) for name in chosen}
            options = None if path is None else _read_options(path, chosen, texts, complete=complete)
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
        flags = {flag_of(about.name, about.metadata["option"]) for about in chosen.values()}
        run.synonyms = synonyms_of(flags)  # type: ignore[attr-defined]
        return run

    return decorate


def named(names: Collection[str]) -> Callable[[str, Option], bool]:
    """Return a selection of the options of these names."""
    return lambda name, _option: name in names


def _parameter(about: Field[Any], panel: str | None) -> inspect.Parameter:
    option: Option = about.metadata["option"]
    settings: dict[str, Any] = {"help": option.help, "rich_help_panel": panel or option.panel}
    if option.metavar:
        settings["metavar"] = option.metavar
    if option.minimum is not None:
        settings["min"] = option.minimum
    kind: Any = option.kind
    if option.choices:
        kind = Literal[choices_of(option)]  # Typer lists them in help, completion and errors
    # A switch without a default of its own can also be switched off: nothing said is something else.
    kind = kind if kind is bool and about.default is False else kind | None
    default = about.default if isinstance(about.default, str | float | bool) else None
    flag = flag_of(about.name, option)
    if option.kind is bool and default is None:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    return inspect.Parameter(
        about.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, typer.Option(flag, **settings)],
    )


def _read_options(
    checkpoint: Path, chosen: dict[str, Field[Any]], texts: dict[str, Any], *, complete: bool
) -> ExportOptions:
    """Return the options that the command line gives; an error of theirs is one of usage."""
    given: dict[str, Any] = {}
    for name, value in texts.items():
        option: Option = chosen[name].metadata["option"]
        if value is None or value == chosen[name].default or value == []:
            continue
        try:
            given[name] = option.read(value) if option.read is not None else value
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=flag_of(name, option)) from None
    try:
        options = ExportOptions.from_keywords(checkpoint, given.pop("arch", None), **given)
        if complete:
            options.check_export()
    except ExportError as error:
        raise typer.BadParameter(str(error)) from None
    return options

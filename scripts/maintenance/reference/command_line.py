"""Reference of the command line, from the Typer application."""

from typing import Any

import typer

from maintenance.reference.markdown import code, to_prose, to_table
from runtime.cli.main import build_app

_ABOUT = """# Command line

{about} `truecopy COMMAND --help` prints the same.

`--version` and `--debug` stand before the command. The exit status is 0 for success, 1 for a failure or a check that
did not pass, and 2 for wrong use; `truecopy diff` exits with 1 if the artifacts differ and with 2 on errors.
`truecopy export`, `export` and `python -m exporter` are the same command.
"""


def command_line() -> str:
    """Return the page: one section per command, one row per argument and option."""
    app = build_app()
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    parts = [_ABOUT.format(about=group.help or "")]
    parts.append(to_table(["command", ""], [[f"[{name}](#{name})", _summary(each)] for name, each in _of(group)]))
    for name, command in _of(group):
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        usage = " ".join(_usage(each) for each in arguments)
        parts.append(f"## {name}\n\n    truecopy {name} {usage} [OPTIONS]\n\n{to_prose(command.help)}\n")
        parts += [f"### {name}: {panel}\n\n{to_table(['', '', 'default'], rows)}" for panel, rows in _panels(command)]
    return "\n".join(parts)


def _of(group: Any) -> list[tuple[str, Any]]:
    return list(group.commands.items())


def _summary(command: Any) -> str:
    return to_prose(command.help).partition("\n\n")[0]


def _panels(command: Any) -> list[tuple[str, list[list[str]]]]:
    """Return the rows of a command's parameters by the panel of its help, arguments first."""
    panels: dict[str, list[list[str]]] = {}
    for parameter in sorted(command.params, key=lambda each: each.param_type_name != "argument"):
        argument = parameter.param_type_name == "argument"
        panel = getattr(parameter, "rich_help_panel", None) or ("arguments" if argument else "options")
        panels.setdefault(panel.lower(), []).append([_name(parameter), parameter.help or "", _default(parameter)])
    return list(panels.items())


def _usage(argument: Any) -> str:
    name = argument.metavar or str(argument.name).upper()
    return name if argument.required else f"[{name}]"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return code(parameter.metavar or str(parameter.name).upper())
    names = "` / `".join([*parameter.opts, *parameter.secondary_opts])
    choices = getattr(parameter.type, "choices", None)
    value = "|".join(choices) if choices else parameter.metavar
    if value is None and not parameter.is_flag:
        value = {"boolean": None, "path": "PATH", "directory": "PATH"}.get(
            parameter.type.name, parameter.type.name.upper()
        )
    return f"`{names}`" + (f" `{value}`" if value else "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if default is None or default is False or callable(default) or default in ([], ()):
        return ""
    return code(str(getattr(default, "value", default)))

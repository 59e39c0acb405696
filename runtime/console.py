"""Shared behavior of the command lines: errors, exit status, --debug and --version."""

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperCommand

from runtime.errors import TruecopyError

if TYPE_CHECKING:
    from rich.console import Console

DEVICE_HELP = (
    "cpu, cuda, cuda:N, tensorrt, openvino, coreml or auto. The command fails if it cannot use a named device."
)

PRECISION_HELP = (
    "fp32, which is proven equal to the model, or another variant of the artifact, which is measured: int8, fp16; "
    "int8+fp32 runs the rows that int8 is unsure of again in fp32."
)

# Output that is not a terminal, such as a log, has room for a row of the parity table, in characters.
_WIDTH = 120

_debug = False
_error_status = 1


class Command(TyperCommand):
    """A command whose function may have ``synonyms``: options of ours by the names that others give them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return what is left of the arguments; an unknown option of such a name is refused with ours."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            ours = getattr(self.callback, "synonyms", {}).get(getattr(error, "option_name", None))
            if ours is not None:
                error.possibilities = [ours]  # type: ignore[attr-defined]  # of click's NoSuchOption
            raise


def make_app(help_text: str) -> typer.Typer:
    """Return an empty command-line application with the options that all commands share."""
    app = typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        debug: Annotated[
            bool, typer.Option("--debug", help="Show the traceback of an error, and of inputs that fail.")
        ] = False,
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
        ] = False,
    ) -> None:
        del version  # its callback has done the work
        global _debug
        _debug = debug
        if debug:
            logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
            logging.getLogger("runtime").setLevel(logging.DEBUG)

    return app


def open_console(**options: Any) -> "Console":
    """Return a console, as wide as its terminal; without a terminal, wide enough for the parity table."""
    from rich.console import Console

    console = Console(**options)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH
    return console


def set_error_exit_code(status: int) -> None:
    """Make errors of the running command exit with ``status``: for commands where status 1 is a result."""
    global _error_status
    _error_status = status


def run_app(app: typer.Typer) -> None:
    """Run ``app`` on the process's arguments; a TruecopyError becomes one line on stderr and exit status 1."""
    _open_closed_streams()
    # A terminated command cleans up as an interrupted one does.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except TruecopyError as error:
        _fail(error, str(error))
    except BrokenPipeError:
        # The reader of stdout closed it, as 'head' does, which is no error here. Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError as error:
        _fail(error, "not enough memory. Use a smaller input, or a machine with more memory.")
    except OSError as error:
        path = f"'{error.filename}': " if error.filename else ""
        _fail(error, f"{path}{error.strerror or error}. Free space or change permissions, and run the command again.")


def is_closed(stream: TextIO) -> bool:
    """Return whether stdout or stderr was closed when the command began, as after '>&-'."""
    return getattr(stream, "name", "") == os.devnull


def _open_closed_streams() -> None:
    """Let stdout and stderr take everything: what is closed leads nowhere, and what an encoding lacks is escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _fail(error: BaseException, message: str) -> NoReturn:
    if _debug:
        raise error
    sys.stderr.write(f"error: {message}\n")
    sys.exit(_error_status)


def _print_version(requested: bool) -> None:
    if requested:
        from runtime.version import package_version

        sys.stdout.write(f"truecopy {package_version()}\n")
        raise typer.Exit


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)

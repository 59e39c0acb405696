"""Parsing of a command line, with what to do about a wrong one."""

import math
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

# The class of all errors about arguments, click.UsageError, or that of the copy that later versions of typer have.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

# Options that other releases and other tools have, by command, and what is written here.
_GPU = dict.fromkeys(("--gpu", "--cuda"), "Write --device cuda.")
_ELSEWHERE = {
    "predict": {"--output": "The rows go to --out FILE, label maps as pictures to --overlays FOLDER.", **_GPU},
    "serve": {
        "--port": "Write --http-port and --grpc-port.",
        "--uds": "It listens on no unix socket: write --host 127.0.0.1.",
        "--workers": "One process uses all cores: leave it out.",
        **_GPU,
    },
}


class Command(TyperCommand):
    """A command whose errors about options say what to do.

    Its function may have ``synonyms``: options of ours by the names that others give them.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the arguments; raises a usage error for an unknown option, and for a number that is not finite."""
        given = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except _USAGE_ERROR as error:
            self._advise(error, given)
            raise
        for parameter in self.params:
            value: Any = ctx.params.get(parameter.name or "")
            if isinstance(value, float) and not math.isfinite(value):
                raise typer.BadParameter(f"{value} is not a finite number.", ctx=ctx, param=parameter)
        return rest

    def _advise(self, error: Any, given: list[str]) -> None:
        """Add what to do to the error of an option that there is not."""
        option = getattr(error, "option_name", "")
        # The name of a file is read as several options of one letter.
        file = next((name for name in given if name.startswith("-") and Path(name).exists()), None)
        advice = _ELSEWHERE.get(self.name or "", {}).get(option)
        ours = getattr(self.callback, "synonyms", {}).get(option)
        if option and not advice and not ours and file is not None:
            advice = f"If it is a file, write './{file}'."
        if ours:
            error.possibilities = [ours]
        elif advice:
            error.message, error.possibilities = f"{error.message}. {advice}", None

"""'truecopy deploy' as a user runs it."""

import subprocess
from pathlib import Path

from support.commands import TRUECOPY


def deploy(*arguments: str | Path, **options: object) -> "subprocess.CompletedProcess[str]":
    """Return how the command ended, and what it said."""
    command = [*TRUECOPY, "deploy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]

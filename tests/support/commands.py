"""The command line and the scripts, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRUECOPY = (sys.executable, "-m", "truecopy")


def truecopy(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Return how 'truecopy' ended, and what it printed."""
    command = [*TRUECOPY, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


def run_script(module: str, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Return how a module of ``scripts/`` ended: what its entry script runs after the setup."""
    path = os.pathsep.join(filter(None, (str(ROOT / "scripts"), str(ROOT / "tests"), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": path},
    )

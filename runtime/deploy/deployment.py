"""Files of a deployment, written completely or not at all."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.artifact.unfinished import unfinished_folder
from runtime.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The files of a deployment by their path in its folder, and the commands to run next, one per line.

    A file is text, bytes, or the file to copy.
    """

    files: Mapping[str, str | bytes | Path]
    next_steps: str


def write_deployment(deployment: Deployment, out: Path) -> None:
    """Write the files into ``out``, a new or empty folder, or one whose files of these names may be replaced.

    They are first written completely to a temporary folder next to it. A new or empty folder then gets all of them at
    once; in one with other files (``--force``) they are replaced one after the other. Raises InputError where writing
    fails.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(out) as folder:
            for name, content in deployment.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, Path):
                    shutil.copyfile(content, folder / name)
                else:
                    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
            if out.is_dir() and any(out.iterdir()):
                for name in deployment.files:
                    (out / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).replace(out / name)
            else:
                folder.rename(out)
    except OSError as error:
        raise InputError(f"'{out}': cannot be written: {error.strerror or error}. Choose another --out.") from None

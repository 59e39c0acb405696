"""A Dockerfile's steps without a container engine: read from the file, and run below a folder that stands for '/opt'.

Only what our Dockerfile uses. What differs from an image: the base is this machine, files that the image has in /opt
lie in ``root``, and a stage that begins moves away what the one before left there, so that it has what it copies alone.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

INSTRUCTIONS = {"ARG", "FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def read_instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction with its arguments, its lines joined as docker joins them."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    for line in joined.splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            assert name in INSTRUCTIONS, name
            yield name, rest.strip()


class StepError(AssertionError):
    """A RUN step failed; the message is what it said."""


@dataclass
class Build:
    """A build that goes on step by step; afterwards, what the image says of running it."""

    context: Path
    root: Path
    arguments: dict[str, str]
    stages: dict[str, Path] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})
    user: str = ""
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    folder: Path | None = None
    stage: str = ""

    def run(self) -> "Build":
        """Do every step of the context's Dockerfile; raises StepError at the first that fails."""
        for name, rest in read_instructions((self.context / "Dockerfile").read_text()):
            getattr(self, f"_{name.lower()}")(rest)
        return self

    def here(self, text: str) -> str:
        """Return text of the image with the paths of its files on this machine."""
        return re.sub(r"/opt/", f"{self.root}/", text)

    def expand(self, text: str) -> str:
        """Return text with the variables that docker itself puts in."""
        return re.sub(r"\$\{(\w+)\}", lambda match: {**self.environment, **self.arguments}[match[1]], text)

    def _from(self, rest: str) -> None:
        image, _, stage = rest.partition(" AS ")
        assert self.expand(image) == self.arguments["BASE"]
        if self.stage:
            self.stages[self.stage] = self.root.with_name(f"stage-{self.stage}")
            self.root.rename(self.stages[self.stage])
        self.stage, self.folder = stage, None
        self.root.mkdir()
        self.root.chmod(0o755)

    def _arg(self, rest: str) -> None:
        assert rest in self.arguments

    def _run(self, rest: str) -> None:
        self.ran.append(rest)
        done = subprocess.run(
            ["/bin/sh", "-c", self.here(rest)],
            env={**self.environment, **self.arguments},
            cwd=self.folder or self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            raise StepError(done.stdout + done.stderr)

    def _copy(self, rest: str) -> None:
        words = rest.split()
        source = self.context
        if words[0].startswith("--from="):
            source = self.stages[words.pop(0).removeprefix("--from=")]
        *names, target = words
        for name in names:
            path = source / name.removeprefix("/opt/")
            copied = Path(self.here(target)) / (path.name if target.endswith("/") else "")
            copied.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, copied, symlinks=True)
            else:
                shutil.copy(path, copied)

    def _workdir(self, rest: str) -> None:
        self.folder = Path(self.here(rest))

    def _env(self, rest: str) -> None:
        for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', rest):
            self.environment[name] = self.here(self.expand(value.strip('"')))

    def _user(self, rest: str) -> None:
        self.user = rest

    def _expose(self, rest: str) -> None:
        del rest

    def _healthcheck(self, rest: str) -> None:
        self.health = json.loads(rest.partition("CMD ")[2])

    def _entrypoint(self, rest: str) -> None:
        self.entrypoint = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self.command = [self.here(word) for word in json.loads(rest)]

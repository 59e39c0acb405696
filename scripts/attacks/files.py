"""What damaged and hostile files lead 'inspect', 'verify', 'predict', 'diff' and a server's loading to do."""

import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from support.hostile_files import damaged, hostile_artifact, hostile_checkpoint

from runtime.errors import TruecopyError

MOST_SECONDS, MOST_MEMORY_MB, LONGEST_MESSAGE = 10, 1200, 2000

# What no file may do; the names of Python's audit events.
_EVENTS = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "shutil.rmtree")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one file led to: ``fault`` is empty where it was refused in one sentence of ours, or taken."""

    name: str
    accepted: bool = False
    fault: str = ""
    seconds: float = 0.0
    memory_mb: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FileAttack:
    """A file or folder, made in a scratch folder that it is given, and what reads it."""

    name: str
    make: Callable[[Path], str]
    read: Callable[[Path], None]


def checkpoint_attacks(damaged_count: int, hostile_count: int) -> Iterator[FileAttack]:
    """Yield checkpoints of every container with damage, then those that nobody would write."""
    originals = _saved_checkpoints()
    names = list(originals)
    for seed in range(damaged_count):
        name = names[seed % len(names)]

        def make_damaged(folder: Path, seed: int = seed, name: str = name) -> str:
            (folder / "x.pth").write_bytes(damaged(random.Random(seed), originals[name]))
            return f"{name} damaged"

        yield FileAttack(name=f"checkpoint {seed}", make=make_damaged, read=read_checkpoint)
    for seed in range(hostile_count):

        def make_hostile(folder: Path, seed: int = seed) -> str:
            (folder / "x.pth").write_bytes(hostile_checkpoint(seed))
            return "hostile"

        yield FileAttack(name=f"hostile checkpoint {seed}", make=make_hostile, read=read_checkpoint)


def artifact_attacks(artifact: Path, count: int) -> Iterator[FileAttack]:
    """Yield copies of an artifact with one part changed."""
    for seed in range(count):

        def make(folder: Path, seed: int = seed) -> str:
            return hostile_artifact(seed, artifact, folder / "x")

        def read(folder: Path) -> None:
            read_artifact(folder / "x", artifact)

        yield FileAttack(name=f"artifact {seed}", make=make, read=read)


def read_checkpoint(folder: Path) -> None:
    """Do what 'truecopy inspect' does, with its page and its JSON."""
    from rich.console import Console

    from exporter.inspection import inspect_checkpoint

    inspection = inspect_checkpoint(folder / "x.pth")
    Console(file=io.StringIO()).print(inspection.to_page())
    msgspec.json.encode(inspection.to_dict())


def read_artifact(artifact: Path, sound: Path) -> None:
    """Load, predict, compare, verify and serve an artifact; raise the last refusal, if all but prediction refuse."""
    import runtime
    from runtime.artifact.diff import compare_artifacts
    from runtime.server.served_model import load_verified
    from runtime.verify import verify

    def predict() -> None:
        with runtime.load(artifact, device="cpu") as model:
            model.predict([sound.parent / "cat.jpg", b"no image"])

    refusals = []
    for action in (
        predict,
        lambda: compare_artifacts(sound, artifact),
        lambda: load_verified(artifact, name="", device="cpu", cores=1, max_pixels=10**7),
        lambda: _check(verify(artifact, device="cpu").passed),
    ):
        try:
            action()
        except TruecopyError as error:
            refusals.append(error)
            if len(str(error)) > LONGEST_MESSAGE:
                raise AssertionError(f"a message of {len(str(error))} characters") from error
        else:
            refusals.append(None)
    if refusals[-1] is not None:
        raise refusals[-1]


def _check(passed: bool) -> None:
    if not passed:
        raise TruecopyError("'x': does not reproduce its outputs. Do not use it.")


def run(attack: FileAttack) -> Outcome:
    """Read a file in a process of its own, and return what came of it."""
    with tempfile.TemporaryDirectory(prefix="truecopy-attack-") as folder:
        finding = attack.make(Path(folder))
        reader, writer = os.pipe()
        started = time.monotonic()
        process = os.fork()
        if process == 0:
            os.close(reader)
            _run_in_child(attack, Path(folder), writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            written = stream.read()
        _, status, usage = os.wait4(process, 0)
        seconds = time.monotonic() - started
    outcome = msgspec.json.decode(written, type=Outcome) if written else Outcome(name="", fault=_end(status))
    memory_mb = usage.ru_maxrss / 1024
    fault = outcome.fault
    if not fault and memory_mb > MOST_MEMORY_MB:
        fault = f"{memory_mb:.0f} MB"
    return msgspec.structs.replace(
        outcome, name=f"{attack.name}: {finding}", fault=fault, seconds=seconds, memory_mb=memory_mb
    )


def _end(status: int) -> str:
    number = os.waitstatus_to_exitcode(status)
    return "no end" if number == -signal.SIGALRM else f"the process ended with {number}"


def _run_in_child(attack: FileAttack, folder: Path, writer: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(MOST_SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    events: list[str] = []
    sys.addaudithook(lambda event, _arguments: events.append(event) if event in _EVENTS else None)
    accepted, fault = False, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attack.read(folder)
        accepted = True
    except TruecopyError as error:
        if len(str(error)) > LONGEST_MESSAGE:
            fault = f"a message of {len(str(error))} characters"
    except BaseException as error:  # whatever it is, the file has led to it
        fault = "".join(traceback.format_exception(error, limit=-4))
    if events:
        fault = f"ran code: {', '.join(events)}"
    outcome: Any = Outcome(name="", accepted=accepted, fault=fault)
    os.write(writer, msgspec.json.encode(outcome))
    os._exit(0)


def _saved_checkpoints() -> dict[str, bytes]:
    """Return small checkpoints of every container, as torch and safetensors write them."""
    import safetensors.torch
    import torch
    from torch import nn

    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    state = network.state_dict()
    contents: dict[str, Any] = {
        "state dict": state,
        "training": {"state_dict": state, "optimizer": torch.optim.Adam(network.parameters()).state_dict(), "epoch": 3},
        "module": network,
    }
    saved = {"safetensors": safetensors.torch.save({key: value.contiguous() for key, value in state.items()})}
    for name, content in contents.items():
        for zipped in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=zipped)
            saved[f"{name}{'' if zipped else ', legacy'}"] = stream.getvalue()
    return saved

"""Processes of this machine, read from /proc."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class ProcessStat:
    """One process; ``children_cpu_s`` is the processor time of the children that it has waited for."""

    parent: int
    session: int
    cpu_s: float
    children_cpu_s: float


def read_processes() -> dict[int, ProcessStat]:
    """Return all processes by id."""
    processes = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            # The name, in brackets, may hold spaces.
            fields = stat.read_text().rpartition(")")[2].split()
            processes[int(stat.parent.name)] = ProcessStat(
                parent=int(fields[1]),
                session=int(fields[3]),
                cpu_s=(int(fields[11]) + int(fields[12])) * _TICK_S,
                children_cpu_s=(int(fields[13]) + int(fields[14])) * _TICK_S,
            )
    return processes


def with_descendants(roots: Iterable[int], processes: Mapping[int, ProcessStat]) -> set[int]:
    """Return those of ``roots`` that run, and all that any of them started."""
    pids = set(roots) & processes.keys()
    while more := {pid for pid, process in processes.items() if process.parent in pids} - pids:
        pids |= more
    return pids

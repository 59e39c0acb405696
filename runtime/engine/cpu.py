"""Usable cores and memory of this process, and what its processor can do."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_CGROUP_V1_CPU = Path("/sys/fs/cgroup/cpu")
_CGROUP_V1_MEMORY = Path("/sys/fs/cgroup/memory")
_MEMORY = Path("/proc/meminfo")
_PROCESSOR = Path("/proc/cpuinfo")

# Instructions that add up products of 8-bit integers, as Linux names them: of Intel and AMD, and of ARM.
_INT8_INSTRUCTIONS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})

# What users and schedulers set to bound the threads of numeric libraries.
_THREADS_VARIABLE = "OMP_NUM_THREADS"


def usable_cores() -> int:
    """Return the number of usable cores, at least 1: those of the affinity mask, limited by the cgroups' CPU quota.

    The environment variable OMP_NUM_THREADS is another limit, as it is for PyTorch.
    onnxruntime sizes its pool by the host's cores, which in a container are more than the process may use.
    """
    # Only Linux has os.sched_getaffinity.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [allowed, _quota_cores(), _requested_threads()]
    return max(1, min(round(limit) for limit in limits if limit is not None))


def memory_bytes() -> int | None:
    """Return the memory that this process may still allocate: what is available, limited by the cgroups.

    Cached pages of files do not count as used: the kernel drops them where memory is needed. None where the system
    does not report it.
    """
    try:
        lines = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
        sizes = [int(lines["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        return None
    for folder in _own_groups():
        sizes += _left(folder, "memory.max", "memory.current", ("file", "shmem"))
    for folder in _own_groups(_CGROUP_V1_MEMORY, "memory"):
        sizes += _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_cache", "total_shmem"))
    return min(sizes)


def _left(folder: Path, limit_file: str, usage_file: str, cached: tuple[str, str]) -> list[int]:
    """Return the memory that a cgroup has left, as a list; an empty one where it has no limit.

    ``cached`` are the statistics of all cached pages, and of those in memory alone, which cannot be dropped.
    """
    limit = _number(folder / limit_file)
    if limit is None:
        return []
    try:
        pages = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        droppable = int(pages.get(cached[0], 0)) - int(pages.get(cached[1], 0))
    except (OSError, ValueError):
        droppable = 0
    used = (_number(folder / usage_file) or 0) - droppable
    return [max(0, limit - max(0, used))]


def has_fast_int8() -> bool | None:
    """Return whether the processor has instructions for sums of 8-bit products; None where that is not known.

    Without them, on x86, the sum of two products of full range may overflow.
    """
    try:
        words = _PROCESSOR.read_text().split()
    except OSError:
        # Every processor of Apple's own has them.
        return True if (platform.system(), platform.machine()) == ("Darwin", "arm64") else None
    return not _INT8_INSTRUCTIONS.isdisjoint(words)


def _quota_cores() -> float | None:
    """Return the smallest quota of the process's cgroup and its ancestors."""
    quotas = [quota for folder in _own_groups() if (quota := _quota(folder / "cpu.max")) is not None]
    for folder in _own_groups(_CGROUP_V1_CPU, "cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def _requested_threads() -> int | None:
    """Return the first number of OMP_NUM_THREADS, which may have one per level of nesting; None where it has none."""
    number = os.environ.get(_THREADS_VARIABLE, "").partition(",")[0].strip()
    return int(number) if number.isdecimal() and int(number) > 0 else None


def _own_groups(root: Path | None = None, controller: str = "") -> Iterator[Path]:
    """Yield the folders of this process's cgroup and its ancestors, up to ``root``.

    A ``controller`` names a hierarchy of version 1; that of version 2 has none.
    """
    root = _CGROUPS if root is None else root
    try:
        entries = [line.split(":", 2) for line in _OWN_CGROUP.read_text().splitlines()]
        inner = next(entry[2] for entry in entries if len(entry) == 3 and controller in entry[1].split(","))
        inner = inner.lstrip("/")
    except (OSError, StopIteration):  # no cgroups here, or only those of the other version
        inner = ""
    folder = root / inner
    while folder != root and root in folder.parents:
        yield folder
        folder = folder.parent
    # In a container the group's own folder is the root, whatever its name on the host.
    yield root


def _quota(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group here, or "max", which is no quota
        return None
    return cores if cores > 0 else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max": no limit
        return None

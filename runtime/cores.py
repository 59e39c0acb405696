"""How many cores this process may really use."""

import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_CGROUP_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def usable_cores() -> int:
    """Return the number of cores, at least 1: the affinity mask, cut to the control group's CPU quota.

    onnxruntime sizes its pool by the host's cores, which in a container is more threads than CPU time.
    """
    # os.sched_getaffinity exists on Linux alone.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_cores()
    return max(1, allowed if quota is None else min(allowed, round(quota)))


def _quota_cores() -> float | None:
    try:
        if _CGROUP_V2.exists():
            quota, period = _CGROUP_V2.read_text().split()
        else:
            quota, period = _CGROUP_V1_QUOTA.read_text(), _CGROUP_V1_PERIOD.read_text()
        cores = int(quota) / int(period)
    except (OSError, ValueError):  # no control groups here, or "max": no quota
        return None
    return cores if cores > 0 else None

"""Makes Python lack what Windows lacks, as far as its own library runs on without it."""

import asyncio
import multiprocessing.util
import os
import signal
import subprocess
import sys
import tempfile

assert all((multiprocessing.util, subprocess, tempfile))  # imported while what they need is still there

for module in ("fcntl", "grp", "pwd", "resource", "termios", "uvloop"):
    sys.modules[module] = None
for name in (
    "O_NONBLOCK",
    "SCHED_BATCH",
    "fork",
    "getuid",
    "register_at_fork",
    "sched_getaffinity",
    "sysconf",
):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "setitimer"):
    delattr(signal, name)


def _has_no_signals(*_: object) -> None:
    raise NotImplementedError


asyncio.SelectorEventLoop.add_signal_handler = _has_no_signals

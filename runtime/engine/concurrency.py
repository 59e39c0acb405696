"""How a model spends the cores: a plan in numbers, and the threads that carry it out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from runtime.errors import InputError

PlanName: TypeAlias = Literal["latency", "throughput"]

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

# The numbers of inputs that a server runs at once. On an accelerator each has a session of its own: cuDNN plans all
# convolutions anew whenever a session is given another shape: 90 ms for ResNet-50 on an H200 that runs it in 3.
BATCH_SIZES = (1, 4, 16)

# A call on an accelerator costs little more for 16 photos than for one; more would only wait for their decoding.
_ACCELERATOR_BATCH = BATCH_SIZES[-1]


class ConcurrencyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``workers`` inputs are in work at a time; one network call takes ``batch`` of them and runs on ``threads``.

    On an accelerator, inputs of one shape are filled up to ``batch``, so that a session sees no other number. Where
    nobody asked for a number of threads, calls that are not alone run on one thread each.
    """

    workers: int
    threads: int
    batch: int


# One input on all cores, or as many inputs as cores with one thread each. Measured with EfficientNet-Lite0 on two
# cores: a session a core, one thread each, gives the most photos a second; a batch gives nothing on a CPU.
_CPU_PLANS: dict[str, Callable[[int], ConcurrencyPlan]] = {
    "latency": lambda cores: ConcurrencyPlan(workers=cores, threads=cores, batch=1),
    "throughput": lambda cores: ConcurrencyPlan(workers=cores, threads=1, batch=1),
}
# The network is elsewhere: the cores decode and prepare, whole batches cross over. More threads than these wait for
# Python's lock: on 16 cores 8 gave 1170 photos a second, 16 gave 860.
_ACCELERATOR_WORKERS = 8
_ACCELERATOR_PLANS: dict[str, Callable[[int], ConcurrencyPlan]] = {
    "latency": lambda cores: ConcurrencyPlan(workers=min(cores, _ACCELERATOR_WORKERS), threads=1, batch=1),
    "throughput": lambda cores: ConcurrencyPlan(
        workers=min(cores, _ACCELERATOR_WORKERS), threads=1, batch=_ACCELERATOR_BATCH
    ),
}


def build_plan(
    name: str,
    *,
    device: str,
    cores: int,
    workers: int | None = None,
    threads: int | None = None,
    batch: int | None = None,
) -> ConcurrencyPlan:
    """Return the plan ``name``, ``latency`` or ``throughput``, for ``device`` on ``cores``; what is given overrides it.

    Raises InputError for an unknown name and for a number below 1.
    """
    plans = _CPU_PLANS if device == "cpu" else _ACCELERATOR_PLANS
    if name not in plans:
        raise InputError(f"plan '{name}': unknown: expected 'latency' or 'throughput'. Name one of these.")
    given = {"workers": workers, "threads": threads, "batch": batch}
    for option, value in given.items():
        if value is not None and value < 1:
            raise InputError(f"{option}: expected at least 1, got {value}. Ask for one or more.")
    return msgspec.structs.replace(
        plans[name](cores), **{option: value for option, value in given.items() if value is not None}
    )


class ActiveCalls:
    """Counts the calls that are under way, each in a ``with``."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = Lock()

    @property
    def alone(self) -> bool:
        """Whether there is no other than the one that asks."""
        return self._count <= 1

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1


class ThreadPool:
    """``count`` threads that start at the first use and end with ``close``; safe to share between threads.

    Decoding, resizing and the network all run outside Python's lock, so threads suffice; processes would load the
    weights once each.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="truecopy-worker")

    def submit(self, function: Callable[..., _Answer], *arguments: Any, **options: Any) -> Future[_Answer]:
        """Return the future of ``function(*arguments, **options)``, run by the next free worker."""
        return self._pool.submit(function, *arguments, **options)

    def map(
        self, function: Callable[[_Item], _Answer], items: Iterable[_Item], *, ahead: int | None = None
    ) -> Iterator[_Answer]:
        """Yield ``function(item)`` for each item, in the order of ``items``.

        At most ``ahead`` items, by default two a worker, are taken before their answers are asked for, so that the
        memory in use does not grow with the number of items. What ``function`` or ``items`` raises is raised in its
        place; items not begun by then are dropped, those in work are waited for.
        """
        ahead = 2 * self.count if ahead is None else ahead
        pending: deque[Future[_Answer]] = deque()
        try:
            for item in items:
                pending.append(self.submit(function, item))
                while len(pending) > ahead or (pending and pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            running = [future for future in pending if not future.cancel()]
            for future in running:
                future.exception()

    def close(self) -> None:
        """Finish what is in work, and end the threads."""
        self._pool.shutdown()

    def __enter__(self) -> "ThreadPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield the items in lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

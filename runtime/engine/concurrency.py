"""Concurrency plans and the thread pool."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from runtime.engine.arguments import check_number
from runtime.errors import InputError

PlanName: TypeAlias = Literal["latency", "throughput"]

_Item = TypeVar("_Item")
_Output = TypeVar("_Output")

# The batch sizes of a server. On an accelerator each has a session of its own: cuDNN plans all convolutions anew
# whenever a session is given another shape, which takes 90 ms for ResNet-50 on an H200 that runs it in 3.
BATCH_SIZES = (1, 4, 16)

# A call on an accelerator costs little more for 16 photos than for one; more would only wait for their decoding.
_ACCELERATOR_BATCH = BATCH_SIZES[-1]


# No machine has as many cores; a session of 100,000 threads takes minutes to open.
_MOST = {"workers": 1024, "threads": 1024}


class ConcurrencyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a model uses the cores: ``workers`` calls at a time, each of ``batch`` inputs on ``threads`` threads.

    On an accelerator the workers prepare, while the batches that they have prepared wait for it in threads of their
    own; batches of inputs of one shape are filled up to ``batch``, so that a session sees no other number. Where no
    number of threads was requested, calls that overlap run on one thread each.
    """

    workers: int
    threads: int
    batch: int


# One input on all cores, or as many inputs as cores with one thread each. Measured with EfficientNet-Lite0 on two
# cores: one single-threaded session per core gives the most photos per second; batches gain nothing on a CPU.
_CPU_PLANS: dict[str, Callable[[int], ConcurrencyPlan]] = {
    "latency": lambda cores: ConcurrencyPlan(workers=cores, threads=cores, batch=1),
    "throughput": lambda cores: ConcurrencyPlan(workers=cores, threads=1, batch=1),
}
# The network runs on the accelerator: the cores decode and prepare, and whole batches are copied to it. More threads
# than these wait for Python's lock: on 16 cores 8 gave 1170 photos per second, 16 gave 860.
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
    """Return the plan ``name``, ``latency`` or ``throughput``, for ``device`` on ``cores``, with numbers overridden.

    Raises InputError for an unknown name, for a number below 1, and for more threads than a machine has cores.
    """
    plans = _CPU_PLANS if device == "cpu" else _ACCELERATOR_PLANS
    if name not in plans:
        raise InputError(f"plan '{name}': unknown plan. Use 'latency' or 'throughput'.")
    numbers = {"workers": workers, "threads": threads, "batch": batch}
    for option, number in numbers.items():
        if number is not None:
            check_number(option, number)
        if number is not None and number > _MOST.get(option, number):
            raise InputError(f"{option}: expected at most {_MOST[option]}, got {number}. Use about one per core.")
    return msgspec.structs.replace(
        plans[name](cores), **{option: number for option, number in numbers.items() if number is not None}
    )


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A plan by name, and the numbers that override its own; None leaves the plan's.

    ``cpu_batch`` is the batch on a CPU where ``batch`` is None, ``most`` the largest one that may run anywhere.
    """

    name: PlanName = "latency"
    workers: int | None = None
    threads: int | None = None
    batch: int | None = None
    cpu_batch: int | None = None
    most: int | None = None

    def plan(self, device: str, *, cores: int) -> ConcurrencyPlan:
        """Return the plan for a device. Raises InputError as ``build_plan`` does."""
        batch = self.cpu_batch if self.batch is None and device == "cpu" else self.batch
        plan = build_plan(
            self.name, device=device, cores=cores, workers=self.workers, threads=self.threads, batch=batch
        )
        return msgspec.structs.replace(plan, batch=min(plan.batch, self.most or plan.batch))


class ActiveCalls:
    """Counter of the calls in progress; each call is a ``with`` block."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = Lock()

    @property
    def alone(self) -> bool:
        """Whether no call but the caller's is in progress."""
        return self._count <= 1

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1


class ThreadPool:
    """Pool of ``count`` threads, started at the first use and ended by ``close``; safe to share between threads.

    Decoding, resizing and the network all run outside Python's lock, so threads suffice; processes would load the
    weights once each.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="truecopy-worker")

    def submit(self, function: Callable[..., _Output], *arguments: Any, **options: Any) -> Future[_Output]:
        """Return the future of ``function(*arguments, **options)``, run by the next free worker."""
        return self._pool.submit(function, *arguments, **options)

    def map(self, function: Callable[[_Item], _Output], items: Iterable[_Item]) -> Iterator[_Output]:
        """Yield ``function(item)`` for each item, in the order of ``items``.

        At most two items per worker are taken before their results are requested, so that memory does not grow with the
        number of items. An exception of ``function`` or ``items`` is raised where its
        result would be yielded; items not started by then are dropped, and those in progress are waited for.
        """
        pending: deque[Future[_Output]] = deque()
        try:
            for item in items:
                pending.append(self.submit(function, item))
                while len(pending) > 2 * self.count or (pending and pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            running = [future for future in pending if not future.cancel()]
            for future in running:
                future.exception()

    def close(self) -> None:
        """Finish the calls in progress, and end the threads."""
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


def run_by_bucket(
    items: Sequence[_Item],
    bucket: Callable[[_Item], Hashable],
    run: Callable[[Sequence[_Item]], Sequence[_Output]],
    *,
    most: int | None = None,
) -> Sequence[_Output]:
    """Return the output of every item, in their order; ``run`` gets items of one bucket, at most ``most`` at a time."""
    buckets: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        buckets.setdefault(bucket(item), []).append(index)
    most = most or len(items)
    if len(buckets) == 1 and len(items) <= most:
        return run(items)
    outputs: dict[int, _Output] = {}
    for indices in (part for whole in buckets.values() for part in batches(whole, most)):
        outputs.update(zip(indices, run([items[index] for index in indices]), strict=True))
    return [outputs[index] for index in range(len(items))]

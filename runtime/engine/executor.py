"""Execution of a network: sessions, worker threads and batches by a concurrency plan."""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.engine.concurrency import ActiveCalls, ConcurrencyPlan, PlanRequest, ThreadPool
from runtime.engine.cpu import usable_cores
from runtime.engine.devices import DeviceOptions
from runtime.engine.session import Arrays, Graph, Session, open_session
from runtime.errors import DeviceError, ModelError

_Item = TypeVar("_Item")
_Output = TypeVar("_Output")


# On an accelerator one batch runs while the next one, which is ready, waits for its turn: the device has no pause. With
# three in flight an H200 alone does 9% more, and jobs did 15 to 20% less: their threads wait for Python's lock.
_IN_FLIGHT = 2

# The executors of this process, which a forked child must not use as they are.
_LOADED: "weakref.WeakSet[Executor]" = weakref.WeakSet()


class Executor:
    """Runs one network on one device, from many threads at a time; ``close`` ends its own threads.

    ``plan`` says how inputs are spread over the cores. A call that has the process to itself uses the session on all of
    the plan's threads, calls that overlap a session with one thread each, unless a number of threads was requested.
    ``outputs`` are the dtypes of a graph's outputs by name, where they are to be compared with those of each session.
    """

    def __init__(
        self,
        network: Graph,
        *,
        device: str,
        request: PlanRequest,
        options: DeviceOptions,
        every_output_batched: bool,
        outputs: Mapping[str, str] | None = None,
    ) -> None:
        self._options = options
        self._outputs = outputs
        self._graph = network
        self._closed = False
        self._network: Session | None = None
        self._single_threaded: Session | None = None
        self._raw: Session | None = None
        self._start()
        # Only the opened session shows which device 'auto' selected.
        self._plan = request.plan("cpu", cores=usable_cores())
        # A requested number of threads holds for every call; without one, overlapping calls have one thread each.
        self._shares_cores = self._plan.threads > 1 and request.threads is None
        self._spin = self._shares_cores or (self._plan.threads > 1 and self._plan.workers == 1)
        session = self._open(network, device, threads=self._plan.threads, spin=self._spin)
        self._network = session
        self._device = session.device
        # An output without a batch dimension may depend on all inputs, including those that only fill the batch.
        self._fills = self._device != "cpu" and session.only_batch_varies and every_output_batched
        self._threads = self._plan.workers
        # The workers' turns to prepare inputs, and those of batches on the device: none waits for them on a CPU, where
        # a worker computes throughout.
        self._preparing: AbstractContextManager[Any] = nullcontext()
        self._running: AbstractContextManager[Any] = nullcontext()
        if self._device != "cpu":
            self._plan = request.plan(self._device, cores=usable_cores())
            session.warm_up([self._plan.batch])
            self._threads = self._plan.workers + _IN_FLIGHT
            self._preparing = threading.BoundedSemaphore(self._plan.workers)
            self._running = threading.BoundedSemaphore(_IN_FLIGHT)
        _LOADED.add(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._calls = ActiveCalls()
        self._pool: ThreadPool | None = None

    @property
    def device(self) -> str:
        """The device that runs the network: never ``auto``."""
        return self._device

    @property
    def plan(self) -> ConcurrencyPlan:
        """The numbers of workers, of threads per call and of inputs per batch."""
        return self._plan

    @property
    def row_counts(self) -> tuple[int, int] | None:
        """The number of rows so far, and of those that ran again in fp32; None where none ever does."""
        return None

    @property
    def fills_batches(self) -> bool:
        """Whether ``fill`` fills batches: on accelerators, where the batch is the only dimension that varies."""
        return self._fills

    def active(self) -> AbstractContextManager[None]:
        """Return a context that counts as one call: it covers all the work on an input, not only the network's."""
        return self._calls

    def preparing(self) -> AbstractContextManager[Any]:
        """Return a context for a thread's work on inputs before the network, inside ``active``.

        On an accelerator as many threads are inside as the plan has workers: the others' batches are on the device.
        """
        return self._preparing

    def fill(self, prepared: Sequence[_Item]) -> Sequence[_Item]:
        """Return a batch filled up to the plan's number with its last input, where batches are filled.

        A session on an accelerator plans anew for each number of inputs, which takes longer than running more of them.
        """
        missing = max(0, self._plan.batch - len(prepared)) if self._fills else 0
        return [*prepared, *[prepared[-1]] * missing]

    def lengths(self, arrays: Arrays) -> dict[str, int]:
        """Return the lengths that arrays have, by the names of the network's dynamic dimensions."""
        return self._opened().lengths(arrays)

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return the network's outputs by name, inside ``active``.

        Raises InputError for arrays that do not fit, DeviceError for a device that fails, ModelError after ``close``.
        """
        with self._running:
            return self._session().run(arrays)

    def run_rows(self, arrays: Arrays) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_] | None]:
        """Return what ``run`` returns, and for each row whether fp32 ran it again; None where it never does."""
        return self.run(arrays), None

    def run_raw(self, arrays: Arrays, graph: Graph) -> dict[str, NDArray[Any]]:
        """Return the outputs of the graph that takes raw inputs, on the CPU; the graph is loaded at its first use."""
        self.check_open()
        with self._lock:
            if self._raw is None:
                self._raw = self._open(graph, "cpu", threads=self._plan.threads)
            session = self._raw
        return session.run(arrays)

    def submit(self, function: Callable[..., _Output], *arguments: Any, **options: Any) -> Future[_Output]:
        """Return the future of ``function(*arguments, **options)``, run by one of the plan's workers."""
        return self._workers().submit(function, *arguments, **options)

    def map(self, function: Callable[[_Item], _Output], items: Iterable[_Item]) -> Iterator[_Output]:
        """Yield ``function(item)`` for each item, in order, with all of the plan's workers."""
        if self._threads == 1:
            for item in items:
                yield function(item)
            return
        yield from self._workers().map(function, items)

    def check_open(self) -> None:
        """Raise ModelError after ``close``."""
        if self._closed:
            raise _closed()

    def terminate(self) -> None:
        """End the runs in progress as soon as possible; the executor is of no use any more."""
        with self._lock:
            sessions = (self._network, self._single_threaded, self._raw)
        for session in sessions:
            if session is not None:
                session.terminate()

    def release(self) -> None:
        """Free the sessions on a CPU, which the next call opens again from memory; other devices keep theirs."""
        if self._device == "cpu":
            with self._lock:
                self._network = self._single_threaded = self._raw = None

    def close(self) -> None:
        """Finish the calls in progress, end the threads and release the sessions."""
        with self._lock:
            self._closed = True
            pool = self._pool
            self._pool = self._network = self._single_threaded = self._raw = None
        if pool is not None:
            pool.close()

    def _opened(self) -> Session:
        network = self._network
        if network is None and not self._closed:
            network = self._reopen()
        if network is None:
            raise _closed()
        return network

    def _reopen(self) -> Session | None:
        """Return a new session after ``release``, or in a forked process; None after ``close``."""
        with self._lock:
            if self._network is None and not self._closed:
                if self._device != "cpu":
                    raise DeviceError(
                        f"device '{self._device}': cannot be used in a process that was forked after the model was "
                        "loaded. Load the model in each process, or start them with 'spawn'."
                    )
                self._network = self._open(self._graph, "cpu", threads=self._plan.threads, spin=self._spin)
            return self._network

    def leave_parent(self) -> None:
        """Forget sessions and threads in a forked process, where the threads of both do not exist.

        The sessions are opened again, from memory, at their next use. The parent's are never freed here: that would
        wait for their threads.
        """
        for session in (self._network, self._single_threaded, self._raw):
            if session is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
        self._network = self._single_threaded = self._raw = None
        self._start()

    def _workers(self) -> ThreadPool:
        self._opened()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPool(self._threads)
            return self._pool

    def _session(self) -> Session:
        """Return the session for a call: multi-threaded where it is alone, single-threaded where others are active."""
        network = self._opened()
        if self._calls.alone or not self._shares_cores or self._device != "cpu":
            return network
        with self._lock:
            if self._single_threaded is None:
                self._single_threaded = self._open(self._graph, "cpu", threads=1)
            return self._single_threaded

    def _open(self, graph: Graph, device: str, *, threads: int, spin: bool = False) -> Session:
        session = open_session(graph, device=device, threads=threads, spin=spin, options=self._options)
        if self._outputs is not None:
            session.check_outputs(self._outputs)
        return session


def _closed() -> ModelError:
    return ModelError("This model is closed. Load the artifact again.")


def _leave_parent() -> None:
    for executor in list(_LOADED):
        executor.leave_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_parent)

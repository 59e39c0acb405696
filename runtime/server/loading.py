"""Loading of artifacts in threads that do not keep the process alive."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


def load_in_thread(function: Callable[..., T], *arguments: Any, **options: Any) -> "Future[T]":
    """Return the future of ``function(*arguments, **options)``, run in a thread of its own.

    A graph that never ends cannot be interrupted, and an executor's threads are waited for when the process ends: this
    one is not.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # who waits for it may be cancelled; the load is not

    def run() -> None:
        try:
            result = function(*arguments, **options)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="loader", daemon=True).start()
    return future


def end_process(status: int) -> NoReturn:
    """End the process at once, without waiting for threads that still run a graph."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

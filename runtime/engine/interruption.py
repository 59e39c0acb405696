"""Runs that another thread can end."""

import threading

from runtime.engine.library import onnxruntime
from runtime.engine.signals import register

# The interruption of the current thread's runs, where there is one.
_current = threading.local()


class Interruption:
    """A context whose runs, in the thread that enters it, can be ended from another thread.

    ``interrupted`` says that they were; such runs raise InputError at their next node, however long they would take.
    """

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()
        self.interrupted = False
        register(self)

    def terminate(self) -> None:
        """End the run in progress, as a signal does."""
        self.options.terminate = True

    def interrupt(self) -> None:
        """End the run in progress, and those that follow inside the context."""
        self.interrupted = True
        self.options.terminate = True

    def __enter__(self) -> "Interruption":
        _current.interruption = self
        return self

    def __exit__(self, *_: object) -> None:
        _current.interruption = None


def current_interruption() -> Interruption | None:
    """Return the interruption that this thread is inside of."""
    found: Interruption | None = getattr(_current, "interruption", None)
    return found

"""Runs that another thread can end."""

import threading

from runtime.engine.library import onnxruntime
from runtime.engine.signals import register

# The interruption of the current thread's runs, where there is one.
_current = threading.local()


class Interruption:
    """A context whose runs, in the thread that enters it, can be ended from another thread.

    ``interrupted`` says that they were; such runs raise InputError at their next node, however long they would take.
    With ``frees_memory``, none of the runs keeps any.
    """

    def __init__(self, *, frees_memory: bool = False) -> None:
        self.options = onnxruntime.RunOptions()
        if frees_memory:
            free_after_run(self.options)
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


def free_after_run(options: "onnxruntime.RunOptions") -> None:
    """Let a run give the memory that it took to the system; the next one takes it again, which costs it time."""
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")


def current_interruption() -> Interruption | None:
    """Return the interruption that this thread is inside of."""
    found: Interruption | None = getattr(_current, "interruption", None)
    return found

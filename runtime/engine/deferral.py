"""Deferral: rows of a quantized network that are too close to call run again in fp32."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.engine.executor import Executor
from runtime.engine.session import Arrays, Graph


class DeferralRule(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows run again: those whose margin, as ``margins`` finds it in the scores ``output``, is under ``limit``.

    ``margins`` takes scores, float32 [batch, classes], and returns float [batch].
    """

    output: str
    limit: float
    margins: Callable[[NDArray[Any]], NDArray[Any]]

    def applies(self, outputs: Arrays) -> NDArray[np.bool_]:
        """Return for each row of a quantized network's outputs whether it runs again; scores that are NaN do."""
        sure: NDArray[np.bool_] = self.margins(outputs[self.output]) >= self.limit
        return ~sure

    def choices(self, outputs: Arrays, room: float) -> tuple[bool, bool]:
        """Return whether a single row may stay, and whether it may run again, where a margin may be off by ``room``."""
        (margin,) = self.margins(outputs[self.output])
        return bool(margin + room >= self.limit), not margin - room >= self.limit


class DeferringExecutor(Executor):
    """Runs a quantized network, and the rows to which ``rule`` applies again with ``full``, which it owns.

    ``full_raw`` is the fp32 graph that takes raw inputs.
    """

    def __init__(self, network: Graph, *, full: Executor, full_raw: Graph, rule: DeferralRule, **options: Any) -> None:
        super().__init__(network, **options)
        self._full = full
        self._full_raw = full_raw
        self._rule = rule
        self._counts = Lock()
        self._rows = self._deferred = 0

    @property
    def row_counts(self) -> tuple[int, int] | None:
        """The number of rows so far, and of those among them that ran again."""
        with self._counts:
            return self._rows, self._deferred

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, as ``Executor.run`` does; rows too close to call are those of fp32."""
        return self.run_rows(arrays)[0]

    def run_rows(self, arrays: Arrays) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """Return the outputs by name, and for each row whether it ran in fp32."""
        return self._settle(arrays, super().run(arrays), self._run_full)

    def run_raw(self, arrays: Arrays, graph: Graph) -> dict[str, NDArray[Any]]:
        """Return the outputs of the graph that takes raw inputs; rows too close to call are those of fp32."""
        outputs = super().run_raw(arrays, graph)
        return self._settle(arrays, outputs, lambda near: self._full.run_raw(near, self._full_raw))[0]

    def terminate(self) -> None:
        """End the runs in progress as soon as possible; the executor is of no use any more."""
        super().terminate()
        self._full.terminate()

    def release(self) -> None:
        """Free the sessions, which the next call opens again from memory."""
        super().release()
        self._full.release()

    def close(self) -> None:
        """Finish the calls in progress, end the threads and release the sessions."""
        super().close()
        self._full.close()

    def _run_full(self, near: Arrays) -> dict[str, NDArray[Any]]:
        with self._full.active():
            return self._full.run(near)

    def _settle(
        self, arrays: Arrays, outputs: dict[str, NDArray[Any]], run_full: Callable[[Arrays], Arrays]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        again = self._rule.applies(outputs)
        with self._counts:
            self._rows += len(again)
            self._deferred += int(again.sum())
        if again.any():
            full = run_full({name: array[again] for name, array in arrays.items()})
            outputs = {name: array.copy() for name, array in outputs.items()}
            for name, rows in full.items():
                outputs[name][again] = rows
        return outputs, again

"""Small constants of a network, which onnxscript's rewriter takes for zero.

Its patterns compare constants with an absolute tolerance of 1e-8 (``onnxscript/rewriter/_pattern_ir.py``, seen in
0.7.2): ``x + 1e-8`` becomes ``x``, and what is divided by that is NaN where ``x`` is zero.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TOLERANCE = "_abs_tol"


@contextmanager
def small_constants_kept() -> Iterator[None]:
    """Let a constant equal zero only where it is zero, as long as the context lasts."""
    try:
        from onnxscript.rewriter import _pattern_ir
    except ImportError:  # another onnxscript, whose rewriter has other modules: parity judges its graph
        yield
        return
    pattern: Any = _pattern_ir.Constant
    before = pattern.__dict__.get(_TOLERANCE)
    # In front of the attribute of the same name that each pattern has of its own.
    pattern._abs_tol = property(lambda _: 0.0, lambda self, value: self.__dict__.update({_TOLERANCE: value}))
    try:
        yield
    finally:
        if before is None:
            del pattern._abs_tol
        else:
            pattern._abs_tol = before

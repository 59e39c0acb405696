"""Images whose file ends too early: whether Pillow reads them, chosen by thread and not by process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import ImageFile

_lock = threading.Lock()
_choice = threading.local()


class _Switch:
    """Pillow's LOAD_TRUNCATED_IMAGES: the choice of the thread that asks, or the process's own where it has none."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def __bool__(self) -> bool:
        allowed = getattr(_choice, "allowed", None)
        return bool(self.own) if allowed is None else bool(allowed)


@contextmanager
def truncated_images(*, allowed: bool) -> Iterator[None]:
    """Let Pillow read or refuse truncated images in this thread, whatever the process has chosen.

    What is missing of an allowed one has the color that Pillow gives it.
    """
    with _lock:
        own: Any = ImageFile.LOAD_TRUNCATED_IMAGES
        if not isinstance(own, _Switch):
            switch: Any = _Switch(own)
            ImageFile.LOAD_TRUNCATED_IMAGES = switch
    before = getattr(_choice, "allowed", None)
    _choice.allowed = allowed
    try:
        yield
    finally:
        _choice.allowed = before

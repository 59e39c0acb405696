"""Locks between processes: a file or a folder that one of them has for itself."""


def lock(descriptor: int, *, wait: bool = False) -> None:
    """Lock an open file or folder until it is closed, at the end of the process at the latest.

    Raises BlockingIOError where another process has it, unless it may ``wait``, and OSError where the file system has
    no locks. On Windows nothing is locked.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

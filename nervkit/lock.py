"""A lock on each output, so that only one run writes it at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nervkit.errors import OutputError
from nervkit.output import check_helper, helper_path, system_errors, temporary


@contextmanager
def locked(output: Path | None) -> Iterator[None]:
    """Hold the lock on `output`: a hidden file beside it, which is released when the process ends.
    None stands for a pipe, which needs no lock.

    Raises OutputError if another run holds the lock.
    """
    if output is None:
        yield
        return
    path = helper_path(output, "lock")
    check_helper(path)
    with system_errors(output):
        path.touch()  # if this fails, acquiring would report another run instead
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
        while not path.exists():  # the previous holder has just removed it
            lock.release()
            lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"{output}: another run of nervkit is writing it; wait for that run, stop it, "
            "or choose another output"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise OutputError(f"{path}: cannot be locked: {error}") from error
    with temporary(path):
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows does not remove open files
                path.unlink(missing_ok=True)
            lock.release()

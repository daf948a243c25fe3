"""One run writes an output at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nervkit.errors import OutputError
from nervkit.output import check_helper, helper, system_errors, temporary


@contextmanager
def locked(output: Path | None) -> Iterator[None]:
    """Hold the lock on `output`, a hidden file beside it that goes with the process that made it.
    None, a pipe, needs none.

    Raises OutputError where another run holds it.
    """
    if output is None:
        yield
        return
    path = helper(output, "lock")
    check_helper(path)
    with system_errors(output):
        path.touch()  # where this cannot be, the lock would say that another run holds it
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
        while not path.exists():  # the run that held it has just removed it
            lock.release()
            lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"{output}: another run of nervkit is writing it; wait for that one, stop it, "
            "or choose another output"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise OutputError(f"{path}: cannot be locked: {error}") from error
    with temporary(path):
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows keeps a file that is open
                path.unlink(missing_ok=True)
            lock.release()

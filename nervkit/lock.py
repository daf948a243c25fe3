"""One run writes an output at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeGuard

from filelock import FileLock, Timeout

from nervkit.errors import OutputError
from nervkit.output import check_helper, helper, is_pipe, linked, temporary


def has_place(output: str | Path | None) -> TypeGuard[str | Path]:
    """Whether `output` names a file or a folder, beside which helper files may lie."""
    return output not in (None, "-") and not is_pipe(Path(output))


@contextmanager
def locked(output: str | Path | None) -> Iterator[None]:
    """Hold the lock on `output`: a hidden file beside it, or inside a folder that is there. It goes
    with the process that made it. What is no place in a file system ("-", a pipe, None) has none.

    Raises OutputError where another run holds it.
    """
    if not has_place(output):
        yield
        return
    place = linked(Path(output)).absolute()
    path = helper(place / "frames" if place.is_dir() else place, "lock")
    check_helper(path)
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

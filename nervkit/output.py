"""Outputs appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nervkit.errors import OutputError, UsageError


def check_output(path: Path, overwrite: bool, source: object = None) -> None:
    """Raise OutputError where `path` must not or cannot be written; before any work is done."""
    named = isinstance(source, (str, Path)) and Path(source).exists()
    if named and path.exists() and Path(source).samefile(path):
        raise UsageError(f"{path}: input and output are the same file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; use -y to replace it")
    if path.is_dir() and path.suffix:
        raise OutputError(f"{path}: is a folder")
    parent = path.parent
    if not parent.is_dir():
        raise OutputError(f"{parent}: no such folder for the output")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"{parent}: this folder is not writable")


LONGEST_NAME = 255  # bytes that file systems allow


def helper(path: Path, kind: str) -> Path:
    """A hidden file beside `path` that belongs to it, such as its "partial", "lock" or
    "checkpoint": `.<name>.<kind>`. A long name is cut, and told from others by a hash."""
    name = f".{path.name}.{kind}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        name = f".{digest}.{kind}"
    return path.with_name(name)


def check_helper(path: Path) -> None:
    """Raise OutputError where something else than a file stands in the place of a helper file."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "device"
        raise OutputError(f"{path}: a {kind} is where nervkit keeps a file; move it away")


_temporary: set[Path] = set()  # what lies beside outputs while they are made


@contextmanager
def temporary(path: Path) -> Iterator[None]:
    """Count `path` among what `remove_temporary` removes."""
    _temporary.add(path)
    try:
        yield
    finally:
        _temporary.discard(path)


def remove_temporary() -> None:
    """Remove what is half-written: for a process that has to end without finishing anything."""
    for path in tuple(_temporary):
        with suppress(OSError):
            _remove(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same suffix, renamed to it on success and removed
    on failure; the files of a folder move into one that exists. What the system refuses becomes
    an OutputError that names `path`."""
    partial = path.parent / f".{path.stem}.partial{path.suffix}"
    try:
        _remove(partial)
        with temporary(partial):
            yield partial
        if partial.is_dir() and path.is_dir():
            for part in partial.iterdir():
                part.replace(path / part.name)
        else:
            partial.replace(path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

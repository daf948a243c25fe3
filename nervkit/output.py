"""Outputs appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nervkit.errors import NervError, OutputError, UsageError


def check_output(path: Path, overwrite: bool, source: object = None) -> None:
    """Raise OutputError where the file `path` must not or cannot be written; before any work."""
    check_not_same(source, path)
    with system_errors(path):
        if path.exists() and not overwrite:
            raise OutputError(f"{path}: exists already; use -y to replace it")
        if path.is_dir():
            raise OutputError(f"{path}: is a folder")
        check_place(path)


def check_nerv_output(path: Path, overwrite: bool, source: object = None) -> None:
    """The same for a .nerv file; UsageError where its name is another's, or it is a pipe."""
    if path.suffix.lower() != ".nerv":
        raise UsageError(f"{path}: the output's name must end in .nerv")
    if is_pipe(path):
        raise UsageError(f"{path}: a .nerv file needs a place in a folder, no pipe")
    check_output(path, overwrite, source)


def check_not_same(source: object, path: Path) -> None:
    """Raise UsageError where `source` names what would be written at `path`."""
    with system_errors(path):
        named = isinstance(source, (str, os.PathLike)) and Path(source).exists()
        if named and path.exists() and Path(source).samefile(path):
            raise UsageError(f"{path}: input and output are the same file")


def check_place(path: Path) -> None:
    """Raise OutputError where nothing can be made in the folder of `path`, or of what `path`
    links to."""
    parent = linked(path).parent
    if not parent.is_dir():
        raise OutputError(f"{parent}: no such folder for the output")
    if not os.access(parent, os.W_OK):
        raise OutputError(f"{parent}: this folder is not writable")


def linked(path: Path) -> Path:
    """`path`, or what it is a link to: links stay, and what they point to is written."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OutputError(f"{path}: this link leads back to itself")
    return target


OPEN_FILE = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")


def is_pipe(path: Path) -> bool:
    """Whether bytes are sent to `path` and no file is made there: a FIFO, a terminal, what a
    shell makes of `>(...)`, and what this process has open under a name in /dev."""
    with system_errors(path):
        if OPEN_FILE.fullmatch(str(path)) is not None:
            return True
        return path.exists() and not (path.is_file() or path.is_dir())


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """What the system refuses becomes an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NervError):
            raise
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


LONGEST_NAME = 255  # bytes that file systems allow


def helper(path: Path, kind: str) -> Path:
    """A hidden file beside `path` that belongs to it, such as its "partial", "lock" or
    "checkpoint": `.<name>.<kind>`. A long name is cut, and distinguished from others by a hash."""
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
    on failure. Where `path` is a link, what it points to is replaced. What the system refuses
    becomes an OutputError that names `path`."""
    with system_errors(path):
        target = linked(path)
        partial = helper(target, f"partial{path.suffix}")
        check_helper(partial)
        with temporary(partial):
            try:
                partial.unlink(missing_ok=True)  # of a run that was killed
                yield partial
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)


@contextmanager
def filling(folder: Path, partial: Path, is_ours: Callable[[str], bool]) -> Iterator[Path]:
    """The empty folder `partial`, whose files move into `folder` on success and are removed on
    failure. `folder` is made where it is absent; else its files of the same names are replaced,
    and no others are touched. What the system refuses becomes an OutputError.

    `is_ours` tells from a file's name whether a run that was killed may have left it in `partial`.
    """
    with system_errors(folder):
        if partial.is_symlink() or (partial.exists() and not _holds_only(partial, is_ours)):
            raise OutputError(f"{partial}: is where nervkit keeps a folder; move it away")
        with temporary(partial):
            try:
                _remove(partial)  # of a run that was killed
                partial.mkdir()
                yield partial
                if folder.exists():
                    _move(sorted(partial.iterdir()), folder)
                else:
                    partial.replace(folder)
            finally:
                _remove(partial)


def _holds_only(folder: Path, is_ours: Callable[[str], bool]) -> bool:
    return folder.is_dir() and all(p.is_file() and is_ours(p.name) for p in folder.iterdir())


def _move(files: list[Path], folder: Path) -> None:
    targets = [folder / file.name for file in files]
    for target in targets:
        if target.is_dir():
            raise OutputError(f"{target}: is a folder, and a file of this name is to be written")
    for file, target in zip(files, targets, strict=True):
        file.replace(linked(target))


def _remove(path: Path) -> None:
    """Remove a file, or a folder of files."""
    if path.is_dir() and not path.is_symlink():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)

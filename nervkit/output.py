"""Atomic outputs: a temporary file beside the output is renamed into its place when complete."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from tempfile import TemporaryFile

from nervkit.errors import NervError, OutputError, UsageError
from nervkit.keywords import either


def output_name(output: str | os.PathLike[str]) -> str:
    """Return the name of an output. Raises UsageError if it is no text, or no file can have it."""
    name = os.fspath(output) if isinstance(output, (str, os.PathLike)) else None
    if not isinstance(name, str):
        raise UsageError(f"the output must be a path, not {type(output).__name__}")
    if "\0" in name:
        raise UsageError(f"the output's name has a NUL character: {name!r}")
    return name


def check_output(path: Path, overwrite: bool, source: object = None) -> None:
    """Raise OutputError before any work if the file `path` must not or cannot be written."""
    check_not_same(source, path)
    with system_errors(path):
        if path.exists() and not overwrite:
            raise OutputError(
                f"{path}: exists already; use {either('-y', 'overwrite=True')} to replace it"
            )
        if path.is_dir():
            raise OutputError(f"{path}: is a folder")
        check_place(path)


def check_nerv_output(path: Path, overwrite: bool, source: object = None) -> None:
    """Like `check_output` for a .nerv file. Raises UsageError for another suffix or a pipe."""
    if path.suffix.lower() != ".nerv":
        raise UsageError(f"{path}: the output's name must end in .nerv")
    if is_pipe(path):
        raise UsageError(f"{path}: is a pipe; a .nerv file must be written to a folder")
    check_output(path, overwrite, source)


def check_not_same(source: object, path: Path) -> None:
    """Raise UsageError if `source` and `path` are the same file."""
    if not isinstance(source, (str, os.PathLike)):
        return
    with system_errors(path):
        if Path(source).exists() and path.exists() and Path(source).samefile(path):
            raise UsageError(f"{path}: input and output are the same file")


def check_place(path: Path) -> None:
    """Raise OutputError if no file can be created in the folder of `path` or of its target."""
    parent = link_target(path).parent
    if parent.exists() and not parent.is_dir():
        raise OutputError(f"{parent}: is a file, not a folder for the output; choose another place")
    if not parent.is_dir():
        raise OutputError(
            f"{parent}: no such folder for the output; create it first: mkdir -p "
            f"{quote(str(parent))}"
        )
    try:  # permission bits do not tell everything: root may write to /proc by them
        with TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise OutputError(
            f"{parent}: this folder is not writable ({error.strerror or error})"
        ) from error


def link_target(path: Path) -> Path:
    """Return `path` or its link target: links stay, and their target is written."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OutputError(f"{path}: this link points to itself")
    return target


OPEN_FILE = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")


def is_pipe(path: Path) -> bool:
    """Whether `path` is a stream rather than a file: a FIFO, a terminal, a shell's `>(...)`, or an
    open file descriptor of this process under a name in /dev."""
    with system_errors(path):
        if OPEN_FILE.fullmatch(str(path)) is not None:
            return True
        return path.exists() and not (path.is_file() or path.is_dir())


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NervError):
            raise
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


LONGEST_NAME = 255  # bytes of a file name


def helper_path(path: Path, kind: str) -> Path:
    """Return the hidden file beside `path` for its "partial", "lock" or "checkpoint":
    `.<name>.<kind>`. A hash replaces a name that would be too long."""
    name = f".{path.name}.{kind}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        name = f".{digest}.{kind}"
    return path.with_name(name)


def check_helper(path: Path) -> None:
    """Raise OutputError if the path of a helper file is taken by something that is no file."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "device"
        raise OutputError(
            f"{path}: is a {kind}, and nervkit needs this name for a file; move it away"
        )


_temporary: set[Path] = set()  # files beside unfinished outputs


@contextmanager
def temporary(path: Path) -> Iterator[None]:
    """Register `path` for `remove_temporary`."""
    _temporary.add(path)
    try:
        yield
    finally:
        _temporary.discard(path)


def remove_temporary() -> None:
    """Remove all unfinished outputs, for a process that must end at once."""
    for path in tuple(_temporary):
        with suppress(OSError):
            _remove(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same suffix. It is renamed to `path` on success
    and removed on failure. If `path` is a link, its target is replaced. An OSError becomes an
    OutputError that names `path`."""
    with system_errors(path):
        target = link_target(path)
        partial = helper_path(target, f"partial{path.suffix}")
        check_helper(partial)
        with temporary(partial):
            try:
                partial.unlink(missing_ok=True)  # left by a killed run
                yield partial
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)


@contextmanager
def filling(folder: Path, partial: Path, is_ours: Callable[[str], bool]) -> Iterator[Path]:
    """Yield the empty folder `partial`. Its files move into `folder` on success and are removed on
    failure. `folder` is created if absent; in an existing one, only files of the same names are
    replaced. An OSError becomes an OutputError.

    `is_ours` tells from a file's name whether a killed run may have left it in `partial`.
    """
    with system_errors(folder):
        if partial.is_symlink() or (partial.exists() and not _holds_only(partial, is_ours)):
            raise OutputError(f"{partial}: nervkit needs this name for a folder; move it away")
        with temporary(partial):
            try:
                _remove(partial)  # left by a killed run
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
            raise OutputError(f"{target}: is a folder; the output is a file of this name")
    for file, target in zip(files, targets, strict=True):
        file.replace(link_target(target))


def _remove(path: Path) -> None:
    """Remove a file, or a folder of files."""
    if path.is_dir() and not path.is_symlink():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)

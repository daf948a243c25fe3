"""Random access to a .nerv file, given as a path, bytes, or a seekable file object."""

from __future__ import annotations

import io
import os
import pickle
import sys
from pathlib import Path
from typing import BinaryIO, Protocol

from nervkit.errors import SourceError, UsageError
from nervkit.forking import register_after_fork

NervSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

STANDARD_INPUT = "-"


class Readable(Protocol):
    """The interface that parsers read from: a SeekableFile, or a binary file."""

    def seek(self, position: int, /) -> object:
        """Move to an absolute byte position."""

    def read(self, count: int, /) -> bytes:
        """Return the next `count` bytes, or fewer at the end of the file."""


class SeekableFile:
    """A seekable source of known size. After a fork, the child process has its own file position.

    Args:
        source: a path, or "-" for standard input; the bytes of a file; or a seekable binary file
            object, such as fsspec's for an object store. Standard input and pipes are read into
            memory.

    Attributes:
        name: file name for messages.
        size: size in bytes.

    Raises:
        SourceError: the file is missing or unreadable, or the object cannot seek.
        UsageError: `source` has another type.
    """

    def __init__(self, source: NervSource) -> None:
        self._file: BinaryIO
        self._owned = True  # False: the caller's object, which we do not close
        self._path: str | None = None  # if the file can be reopened
        self._inherited = False  # True in a forked process until it reopens the file
        self._closed = False
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
            self.name, self._file, self.size = "these bytes", io.BytesIO(data), len(data)
        elif source == "":
            raise UsageError("the file name is empty")
        elif source == STANDARD_INPUT:
            data = _standard_input()
            self.name, self._file, self.size = "standard input", io.BytesIO(data), len(data)
        elif isinstance(source, (str, os.PathLike)):
            self.name = str(source)
            self._file, self.size = _opened(Path(source))
            if not isinstance(self._file, io.BytesIO):
                self._path = str(Path(source).absolute())
        elif hasattr(source, "read") and hasattr(source, "seek"):
            self.name, self._file, self._owned = name_of(source), source, False
            self.size = self._measured()
        else:
            raise UsageError(
                f"a .nerv file is a path, bytes or an open binary file, not {type(source).__name__}"
            )
        register_after_fork(self)

    @property
    def elsewhere(self) -> str | bytes | BinaryIO:
        """The source by which another process opens the file. Raises UsageError if it cannot."""
        if self._path is not None:
            return self._path
        if self._owned:
            return self._file.getvalue()  # type: ignore[attr-defined]
        try:
            self._file.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        except (TypeError, pickle.PicklingError) as error:
            raise UsageError(
                f"{self.name}: an open file cannot be sent to another process; open the video from "
                "a path or from bytes"
            ) from error
        return self._file

    def after_fork(self) -> None:
        """Mark the file as inherited: parent and child share its position."""
        self._inherited = True

    def seek(self, position: int) -> None:
        """Move to a byte position. Raises UsageError after `close`, and SourceError in a fork that
        cannot reopen the file."""
        if self._closed:
            raise UsageError(f"{self.name}: this file is closed; open it again")
        if self._inherited:
            self._open_again()
        self._file.seek(position)

    def _open_again(self) -> None:
        if self._path is not None:
            self._file, _ = _opened(Path(self._path))
        elif not self._owned and _has_descriptor(self._file):
            raise SourceError(
                f"{self.name}: the forked process shares the position of this open file; open the "
                "video from a path or from bytes"
            )
        self._inherited = False

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, or fewer at the file's end. Raises SourceError."""
        try:
            data = self._file.read(count)
            while len(data) < count and (more := self._file.read(count - len(data))):
                data += more  # a raw file may return less than requested
            return data
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read: {error}") from error

    def close(self) -> None:
        """Close the file unless it belongs to the caller."""
        self._closed = True
        if self._owned:
            self._file.close()

    def _measured(self) -> int:
        """Return the size of a file object, found by seeking. Raises SourceError, UsageError."""
        try:
            self._file.seek(0, io.SEEK_END)
            size = self._file.tell()
            self._file.seek(0)
            empty = self._file.read(0)
        except (OSError, ValueError) as error:  # io.UnsupportedOperation is both
            raise SourceError(
                f"{self.name}: this object cannot seek, which reading a .nerv file needs; "
                f"pass its bytes instead, file.read() ({error})"
            ) from error
        if not isinstance(empty, bytes):
            raise UsageError(f"{self.name}: the file is open in text mode; open it with mode 'rb'")
        return size


def _has_descriptor(file: BinaryIO) -> bool:
    """Whether an object has a file descriptor, whose position forked processes share."""
    try:
        file.fileno()
    except (AttributeError, OSError):
        return False
    return True


def name_of(file: BinaryIO) -> str:
    """Return the name of a file object for messages."""
    names = (getattr(file, attribute, None) for attribute in ("name", "path"))
    return next((name for name in names if isinstance(name, str) and name), "this file")


def _standard_input() -> bytes:
    """Return all bytes of standard input. Raises SourceError."""
    if sys.stdin is None:
        raise SourceError("standard input is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise SourceError(f"standard input: {error.strerror or error}") from error


def _opened(path: Path) -> tuple[BinaryIO, int]:
    """Open a file and return it with its size. A pipe is read into memory. Raises SourceError."""
    try:
        file = path.open("rb")
        if path.is_file():
            return file, path.stat().st_size
        with file:
            data = file.read()
        return io.BytesIO(data), len(data)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a NUL character in the name
        raise UsageError(f"{str(path)!r}: no file can have this name ({error})") from error

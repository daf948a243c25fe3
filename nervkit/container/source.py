"""What a .nerv file is read from: a path, its bytes, or an object that reads and seeks."""

from __future__ import annotations

import io
import os
import pickle
import sys
from pathlib import Path
from typing import BinaryIO, Protocol

from nervkit.errors import SourceError, UsageError
from nervkit.forking import renewed_after_fork

NervSource = str | os.PathLike[str] | bytes | BinaryIO

STANDARD_INPUT = "-"


class Readable(Protocol):
    """What a container is read from: a SeekableFile, or a binary file."""

    def seek(self, position: int, /) -> object:
        """Go to a byte."""

    def read(self, count: int, /) -> bytes:
        """The next `count` bytes; fewer at the end only."""


class SeekableFile:
    """Bytes of a known number, any of which can be read. A child process reads them on its own.

    Args:
        source: a path, or "-" for standard input; the bytes of a file; or a binary file object that
            can seek, such as fsspec's of an object store. Standard input, or a pipe at a path, is
            read whole.

    Attributes:
        name: for messages.
        size: in bytes.

    Raises:
        SourceError: no such file, not readable, or an object that cannot seek.
        UsageError: none of these.
    """

    def __init__(self, source: NervSource) -> None:
        self._file: BinaryIO
        self._owned = True  # an object that was handed over stays the caller's
        self._path: str | None = None  # of a file that can be opened again
        self._inherited = False  # from the process that this one is forked from
        if isinstance(source, bytes):
            self.name, self._file, self.size = "these bytes", io.BytesIO(source), len(source)
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
        renewed_after_fork(self)

    @property
    def elsewhere(self) -> str | bytes | BinaryIO:
        """What another process opens it by. Raises UsageError where it cannot."""
        if self._path is not None:
            return self._path
        if self._owned:
            return self._file.getvalue()  # type: ignore[attr-defined]
        try:
            self._file.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        except (TypeError, pickle.PicklingError) as error:
            raise UsageError(
                f"{self.name}: an open file cannot be sent to another process; open the video by "
                "its path, or from its bytes"
            ) from error
        return self._file

    def after_fork(self) -> None:
        """A file that was opened before the fork has one position in both processes."""
        self._inherited = True

    def seek(self, position: int) -> None:
        """Go to a byte. Raises SourceError where a forked process cannot read on its own."""
        if self._inherited:
            self._open_again()
        self._file.seek(position)

    def _open_again(self) -> None:
        if self._path is not None:
            self._file, _ = _opened(Path(self._path))
        elif not self._owned and _has_descriptor(self._file):
            raise SourceError(
                f"{self.name}: this open file is shared with the process that was forked; open the "
                "video by its path, or from its bytes"
            )
        self._inherited = False

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the file's end only. Raises SourceError."""
        try:
            data = self._file.read(count)
            while len(data) < count and (more := self._file.read(count - len(data))):
                data += more  # unbuffered files may give less than is asked for
            return data
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read: {error}") from error

    def close(self) -> None:
        """Close what was opened here."""
        if self._owned:
            self._file.close()

    def _measured(self) -> int:
        """The size of an object, found by seeking."""
        try:
            self._file.seek(0, io.SEEK_END)
            size = self._file.tell()
            self._file.seek(0)
            empty = self._file.read(0)
        except (OSError, ValueError) as error:  # io.UnsupportedOperation is both
            raise SourceError(
                f"{self.name}: a .nerv file is read from its end, and this object cannot seek; "
                f"give its bytes instead, file.read() ({error})"
            ) from error
        if not isinstance(empty, bytes):
            raise UsageError(f"{self.name}: is open as text; open it with mode 'rb'")
        return size


def _has_descriptor(file: BinaryIO) -> bool:
    """Whether an object is a file of the system, whose position forked processes share."""
    try:
        file.fileno()
    except (AttributeError, OSError):
        return False
    return True


def name_of(file: BinaryIO) -> str:
    """What a file object calls itself."""
    names = (getattr(file, attribute, None) for attribute in ("name", "path"))
    return next((name for name in names if isinstance(name, str) and name), "this file")


def _standard_input() -> bytes:
    """All of it."""
    if sys.stdin is None:
        raise SourceError("standard input is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise SourceError(f"standard input: {error.strerror or error}") from error


def _opened(path: Path) -> tuple[BinaryIO, int]:
    """A file and its size. A pipe is read whole."""
    try:
        file = path.open("rb")
        if path.is_file():
            return file, path.stat().st_size
        with file:
            data = file.read()
        return io.BytesIO(data), len(data)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error

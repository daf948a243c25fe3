"""What a .nerv file is read from: a path, its bytes, or an object that reads and seeks."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, Protocol

from nervkit.errors import SourceError, UsageError

NervSource = str | os.PathLike[str] | bytes | BinaryIO


class Readable(Protocol):
    """What a container is read from: a SeekableFile, or a binary file."""

    def seek(self, position: int, /) -> object:
        """Go to a byte."""

    def read(self, count: int, /) -> bytes:
        """The next `count` bytes; fewer at the end only."""


class SeekableFile:
    """Bytes of a known number, any of which can be read.

    Args:
        source: a path; the bytes of a file; or a binary file object that can seek, such as
            fsspec's of an object store. A pipe at a path is read whole.

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
        if isinstance(source, bytes):
            self.name, self._file, self.size = "these bytes", io.BytesIO(source), len(source)
        elif isinstance(source, (str, os.PathLike)):
            self.name = str(source)
            self._file, self.size = _opened(Path(source))
        elif hasattr(source, "read") and hasattr(source, "seek"):
            self.name, self._file, self._owned = _name_of(source), source, False
            self.size = self._measured()
        else:
            raise UsageError(
                f"a .nerv file is a path, bytes or an open binary file, not {type(source).__name__}"
            )

    def seek(self, position: int) -> None:
        """Go to a byte."""
        self._file.seek(position)

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


def _name_of(file: BinaryIO) -> str:
    """What a file object calls itself."""
    names = (getattr(file, attribute, None) for attribute in ("name", "path"))
    return next((name for name in names if isinstance(name, str) and name), "this file")


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

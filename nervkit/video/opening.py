"""Safe opening of files, pipes and URLs: libavformat opens nothing but the named input."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

import av
import av.logging

from nervkit.container.chunks import SIGNATURE
from nervkit.container.source import name_of
from nervkit.errors import SourceError, UsageError
from nervkit.keywords import setting
from nervkit.video.endings import Cut, cut_in, cut_of

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: first bytes of files that only refer to other files and URLs
PLAYLISTS = {
    b"#extm3u": "an M3U8 playlist (HLS)",
    b"ffconcat version": "a list of files (ffconcat)",
    b"<mpd": "an MPEG-DASH manifest",
    b"<smoothstreamingmedia": "a Smooth Streaming manifest",
    b"<compositionplaylist": "an IMF playlist",
    b"<assetmap": "an IMF asset map",
    b"<smil": "a SMIL playlist",
    b"<asx": "an ASX playlist",
    b"[playlist]": "a PLS playlist",
    b"v=0": "a session description (SDP)",
    b"rtsp://": "the URL of a stream",
    b"http://": "the URL of a stream",
    b"https://": "the URL of a stream",
}
#: demuxers of libavformat that open files named by or next to their input, run it as a script, or
#: open devices
REFERRING = {
    *("concat", "dash", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"),
    *("avisynth", "vapoursynth", "lavfi"),
    *("alsa", "fbdev", "kmsgrab", "oss", "v4l2", "video4linux2", "x11grab"),
}
NETWORK = "file,crypto,data,http,https,httpproxy,tls,tcp,udp,rtp,rtsp,rtmp,rtmps,srt"
UNPIPED = "this MP4 has its index at the end and cannot be read from a pipe; save it as a file"
WEBP_ANIMATED = 2  # flag in the VP8X chunk
HEAD = 2048  # bytes to inspect
PATIENCE = 30.0  # network timeout in seconds
IO_BUFFER = 1 << 18  # bytes per read


@dataclass(frozen=True)
class Target:
    """A video input: a regular file (`path`) or a seekable object (`file`), which can be reopened;
    a pipe (`pipe`), which cannot; or a URL (`url`), which needs `allow_network`.

    `format` and `options` are for libavformat's demuxer if the bytes do not identify the format.
    """

    name: str  # in messages
    path: Path | None = None
    file: BinaryIO | None = None
    pipe: BinaryIO | None = None
    url: str | None = None
    allow_network: bool = False
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_object(cls, source: bytes | bytearray | memoryview | BinaryIO) -> Self:
        """Return the target for the bytes of a file or a binary file object, which is read from its
        beginning if it can seek, else from its current position. Raises UsageError for a text
        file."""
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls("these bytes", file=io.BytesIO(source))
        name = name_of(source)
        if isinstance(source, io.TextIOBase):
            raise UsageError(f"{name}: the file is open in text mode; open it with mode 'rb'")
        if can_seek(source):
            return cls(name, file=source)
        if hasattr(source, "peek"):
            return cls(name, pipe=source)
        return cls(name, file=io.BytesIO(source.read()))

    @property
    def rereadable(self) -> bool:
        """Whether the input can be opened again."""
        return self.path is not None or self.file is not None

    @property
    def size(self) -> int | None:
        """Size in bytes, None for a pipe or URL."""
        if self.file is not None:
            return self.file.seek(0, io.SEEK_END)
        return self.path.stat().st_size if self.path is not None else None

    @property
    def cut(self) -> Cut | None:
        """The truncation of the input; None if there is none, or for a pipe or URL."""
        if self.file is not None:
            return cut_in(View(self.file))
        return None if self.path is None else cut_of(self.path)

    def open(self) -> av.container.InputContainer:
        """Open the container. libavformat may open nothing but the target itself, unless the
        network is allowed. Raises SourceError."""
        if self.url is not None:
            return self._container(self.url, NETWORK)
        head = self._head()
        if not self.format and head.startswith(SIGNATURE):
            raise SourceError(
                f"{self.name}: this is a .nerv file: decode it first, or use requantize or "
                "start-from"
            )
        playlist = None if self.format else playlist_kind(head)
        if playlist is not None and self.path is not None and self.allow_network:
            return self._container(f"file:{self.path.absolute()}", NETWORK)
        if playlist is not None:
            remedy = "" if self.path is not None else " from a file"
            raise SourceError(
                f"{self.name}: this is {playlist}, not a video; "
                f"to open what it refers to, read it{remedy} with {setting('allow_network', True)}"
            )
        if head[8:16] == b"WEBPVP8X" and head[20] & WEBP_ANIMATED:  # libavcodec reads still WebP
            raise SourceError(f"{self.name}: an animated WebP must be a file named .webp")
        if self.path is not None:
            # "file:" makes libavformat treat any name as a path.
            return self._container(f"file:{self.path.absolute()}", "file", head)
        stream = self.pipe if self.file is None else View(self.file)
        assert stream is not None
        return self._container(stream, "none", head)

    def _head(self) -> bytes:
        """Return the first bytes without consuming them. Raises SourceError if there are none."""
        try:
            if self.path is not None:
                with self.path.open("rb") as file:
                    head = file.read(HEAD)
            elif self.file is not None:
                head = View(self.file).read(HEAD)
            else:
                head = self.pipe.peek(HEAD)[:HEAD]  # type: ignore[union-attr]
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read ({error.strerror or error})") from error
        if not head:
            raise SourceError(f"{self.name}: the input is empty")
        return head

    def _container(
        self, source: str | BinaryIO | View, protocols: str, head: bytes = b""
    ) -> av.container.InputContainer:
        options = {"protocol_whitelist": protocols, "pattern_type": "none"}
        if protocols != NETWORK:
            options["format_whitelist"] = ",".join(sorted(av.formats_available - REFERRING))
        try:
            return av.open(
                source,
                "r",
                format=self.format,
                options=dict(self.options),
                container_options=options,
                metadata_errors="replace",
                buffer_size=IO_BUFFER,
                timeout=PATIENCE if protocols == NETWORK else None,
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(f"{self.name}: {self._why_not(reason, head)}") from error

    def _why_not(self, reason: str, head: bytes) -> str:
        if head[4:8] == b"ftyp":
            if not self.rereadable:
                return UNPIPED
            return (
                f"cannot be opened as video ({reason}): its index is missing or damaged; "
                "the file may be truncated, or its recording was never finished"
            )
        return f"cannot be opened as video ({reason}); it may be damaged, or not a video"


class View:
    """A file object read from its beginning, with a position of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._position = file, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as `io.IOBase.seek` does; return the new position."""
        if whence == os.SEEK_CUR:
            offset, whence = self._position + offset, os.SEEK_SET
        self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        """Return the current position."""
        return self._position

    def read(self, count: int = -1) -> bytes:
        """Return the next `count` bytes, or fewer at the end; -1: all that remain."""
        self._file.seek(self._position)
        data = self._file.read(count)
        while 0 < len(data) < count and (more := self._file.read(count - len(data))):
            data += more  # a raw file may return less than requested
        self._position += len(data)
        return data


def can_seek(file: BinaryIO) -> bool:
    """Whether a file object supports seeking."""
    try:
        file.seek(file.tell())
    except (AttributeError, OSError):
        return False
    return True


def playlist_kind(head: bytes) -> str | None:
    """Return what kind of playlist begins with these bytes, or None."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, kind in PLAYLISTS.items():
        if text.startswith(mark) or (text.startswith(b"<?xml") and mark[:1] == b"<" in text):
            return kind
    return None


def described(container: av.container.InputContainer) -> dict[int, str]:
    """Return libavformat's text description of each stream, by index. It has what PyAV does not
    expose: the codec of a stream without a decoder, and cropping."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        text = container.dumps_format()  # type: ignore[attr-defined]  # missing in PyAV's stubs
    finally:
        av.logging.set_level(level)
    parts = re.split(r"^  Stream #\d+:(\d+)", text, flags=re.MULTILINE)
    return {int(index): lines for index, lines in zip(parts[1::2], parts[2::2], strict=True)}

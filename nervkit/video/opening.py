"""How files, pipes and addresses are opened: as what their bytes are, and nothing besides."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

import av
import av.logging

from nervkit.container.source import name_of
from nervkit.errors import SourceError, UsageError
from nervkit.video.endings import Cut, cut_in, cut_of

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: how files begin that only name other files and addresses
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
    b"rtsp://": "a stream's address",
    b"http://": "a stream's address",
    b"https://": "a stream's address",
}
#: libavformat's readers that open what their input names or what lies beside it, run it as a
#: script, or open devices
REFERRING = {
    *("concat", "dash", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"),
    *("avisynth", "vapoursynth", "lavfi"),
    *("alsa", "fbdev", "kmsgrab", "oss", "v4l2", "video4linux2", "x11grab"),
}
NETWORK = "file,crypto,data,http,https,httpproxy,tls,tcp,udp,rtp,rtsp,rtmp,rtmps,srt"
UNPIPED = "this MP4's index is not at its beginning: it cannot be piped; save it as a file first"
WEBP_ANIMATED = 2  # a flag of its VP8X chunk
HEAD = 2048  # bytes that are looked at
PATIENCE = 30.0  # seconds that an address may take to answer
IO_BUFFER = 1 << 18  # bytes read at once


@dataclass(frozen=True)
class Target:
    """What a video is read from: a regular file (`path`) or an object that seeks (`file`), which
    may be opened again; a pipe (`pipe`), which may not; or an address (`url`), which needs
    `allow_network`.

    `format` and `options` are those of libavformat's demuxer, where the bytes do not say.
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
        """The bytes of a file, or a binary file object: all of it where it can seek, else what it
        still gives. Raises UsageError for one that is open as text, SourceError for none."""
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls("these bytes", file=io.BytesIO(source))
        name = name_of(source)
        if isinstance(source, io.TextIOBase):
            raise UsageError(f"{name}: is open as text; open it with mode 'rb'")
        if can_seek(source):
            return cls(name, file=source)
        if hasattr(source, "peek"):
            return cls(name, pipe=source)
        return cls(name, file=io.BytesIO(source.read()))

    @property
    def rereadable(self) -> bool:
        """Whether it may be opened again."""
        return self.path is not None or self.file is not None

    @property
    def size(self) -> int | None:
        """In bytes; None where only reading to the end tells."""
        if self.file is not None:
            return self.file.seek(0, io.SEEK_END)
        return self.path.stat().st_size if self.path is not None else None

    @property
    def cut(self) -> Cut | None:
        """How it is cut short; None where it is not, or only reading to the end tells."""
        if self.file is not None:
            return cut_in(View(self.file))
        return None if self.path is None else cut_of(self.path)

    def open(self) -> av.container.InputContainer:
        """The opened container. Nothing but the target itself is opened, unless the network is
        allowed. Raises SourceError."""
        if self.url is not None:
            return self._container(self.url, NETWORK)
        head = self._head()
        playlist = None if self.format else playlist_kind(head)
        if playlist is not None and self.path is not None and self.allow_network:
            return self._container(f"file:{self.path.absolute()}", NETWORK)
        if playlist is not None:
            remedy = "" if self.path is not None else ", from a file"
            raise SourceError(
                f"{self.name}: is {playlist}, no video: "
                f"what it names is opened only with --allow-network{remedy}"
            )
        if head[8:16] == b"WEBPVP8X" and head[20] & WEBP_ANIMATED:  # others of the name are stills
            raise SourceError(f"{self.name}: an animated WebP is read only from a file named .webp")
        if self.path is not None:
            # After "file:" a name is a path, whatever is in it.
            return self._container(f"file:{self.path.absolute()}", "file", head)
        stream = self.pipe if self.file is None else View(self.file)
        assert stream is not None
        return self._container(stream, "none", head)

    def _head(self) -> bytes:
        """The first bytes, which stay to be read. Raises SourceError where there are none."""
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
            raise SourceError(f"{self.name}: there is nothing in it")
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
                "is the file cut short, or was its recording never finished?"
            )
        return f"cannot be opened as video ({reason}); is it damaged, or no video?"


class View:
    """A whole file object, read from its beginning, with a position that no other view moves."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._position = file, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte; as of any file."""
        if whence == os.SEEK_CUR:
            offset, whence = self._position + offset, os.SEEK_SET
        self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        """The byte that is read next."""
        return self._position

    def read(self, count: int = -1) -> bytes:
        """The next `count` bytes, fewer at the end only; all that are left without."""
        self._file.seek(self._position)
        data = self._file.read(count)
        while 0 < len(data) < count and (more := self._file.read(count - len(data))):
            data += more  # unbuffered files may give less than is asked for
        self._position += len(data)
        return data


def can_seek(file: BinaryIO) -> bool:
    """Whether any byte of a file object can be read, more than once."""
    try:
        file.seek(file.tell())
    except (AttributeError, OSError):
        return False
    return True


def playlist_kind(head: bytes) -> str | None:
    """What a file that begins like this is called, where it only names other files."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, kind in PLAYLISTS.items():
        if text.startswith(mark) or (text.startswith(b"<?xml") and mark[:1] == b"<" in text):
            return kind
    return None


def described(container: av.container.InputContainer) -> dict[int, str]:
    """libavformat's own lines on each stream, by index. They tell what PyAV has no names for: the
    codec of a stream without a decoder, and cropping."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        text = container.dumps_format()
    finally:
        av.logging.set_level(level)
    parts = re.split(r"^  Stream #\d+:(\d+)", text, flags=re.MULTILINE)
    return {int(index): lines for index, lines in zip(parts[1::2], parts[2::2], strict=True)}

"""A collection file (.nervc): several videos in one network. docs/collection.md has the layout.

Adding a video rewrites the file: the chunks of earlier videos are copied byte for byte, and those
of the new video follow. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from nervkit.container import chunks
from nervkit.container.chunks import Chunk, inflate
from nervkit.container.fields import check_int, check_object, check_skippable, parse_json, printable
from nervkit.container.file import Checks
from nervkit.container.header import FIELDS, MAX_HEADER_BYTES, Header, pack_json, parse_model
from nervkit.container.limits import (
    MOST_CHUNKS,
    MOST_FRAMES,
    MOST_PIXELS_A_SIDE,
    MOST_VALUES,
    Limits,
)
from nervkit.container.source import NervSource, SeekableFile
from nervkit.container.timing import unpack_timing
from nervkit.errors import FormatError, UsageError
from nervkit.media.checks import line
from nervkit.media.timing import Timing

VIDEO, MASKS, WEIGHTS = b"VIDE", b"MASK", b"WGTS"
#: chunk types that may follow a video's VIDE chunk, and whether they are required
OF_A_VIDEO = {
    chunks.TIMING: True,
    MASKS: True,
    WEIGHTS: True,
    chunks.CHECKS: False,
    chunks.SAMPLES: False,
}
PARTS = {
    VIDEO: "description",
    chunks.TIMING: "description",
    MASKS: "masks",
    WEIGHTS: "weights",
    chunks.CHECKS: "checks",
    chunks.SAMPLES: "checks",
}
MOST_VIDEOS = 1 << 10
MOST_NAME = 255  # characters
MODEL = "pfnr"
COUNTS = ("frames", "kept", "added")


@dataclass(frozen=True)
class Network:
    """The shared network: model, configuration, frame size and number of shared weights."""

    model: str
    config: dict[str, Any]
    width: int
    height: int
    weights: int

    def pack(self) -> bytes:
        """Return the payload of the header chunk."""
        return pack_json(vars(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Network:
        """Parse the payload of the header chunk. Raises FormatError."""
        what = "the header"
        names = ("model", "config", "width", "height", "weights")
        value = parse_json(inflate(payload, MAX_HEADER_BYTES, what), what)
        fields = check_object(value, what, names)
        model, config = parse_model({name: fields[name] for name in ("model", "config")}, what)
        if model != MODEL:
            raise FormatError(f"unknown network model {printable(model)}: install a newer nervkit")
        return cls(
            model,
            config,
            check_int(fields["width"], "width", 1, MOST_PIXELS_A_SIDE),
            check_int(fields["height"], "height", 1, MOST_PIXELS_A_SIDE),
            check_int(fields["weights"], "weights", 1, MOST_VALUES),
        )


@dataclass(frozen=True)
class Entry:
    """A video of a collection.

    Attributes:
        name: unique in the collection.
        header: the header of a .nerv file, without segments.
        frames: number of frames.
        kept: number of shared weights that the video uses.
        added: how many of those no earlier video uses.
        parts: the video's chunks by type.
    """

    name: str
    header: Header
    frames: int
    kept: int
    added: int
    parts: Mapping[bytes, Chunk]

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """Bytes on disk by part, framing included."""
        parts = dict.fromkeys([*PARTS.values(), "other"], 0)
        for type, chunk in self.parts.items():
            parts[PARTS.get(type, "other")] += chunk.size
        return {name: size for name, size in parts.items() if size or name != "other"}

    @property
    def bytes(self) -> int:
        """Bytes on disk of this video's own chunks."""
        return sum(self.bytes_by_part.values())


def pack_entry(name: str, header: Header, frames: int, kept: int, added: int) -> bytes:
    """Return the payload of a VIDE chunk. Raises FormatError if a reader would refuse it."""
    counts = dict(zip(COUNTS, (frames, kept, added), strict=True))
    payload = pack_json(header.to_dict() | {"name": name} | counts)
    _entry(payload)
    return payload


def _entry(payload: bytes) -> tuple[str, Header, int, int, int]:
    """Parse a VIDE chunk: name, header, frames, kept, added. Raises FormatError."""
    what = "a video's description"
    value = parse_json(inflate(payload, MAX_HEADER_BYTES, what), what)
    fields = check_object(value, what, ("name", *COUNTS, *FIELDS))
    name = line(fields["name"], "a video's name", MOST_NAME)
    if not name:
        raise FormatError("a video has no name")
    kept = check_int(fields["kept"], "kept", 0, MOST_VALUES)
    return (
        name,
        Header.parse({field: fields[field] for field in FIELDS}),
        check_int(fields["frames"], "frames", 1, MOST_FRAMES),
        kept,
        check_int(fields["added"], "added", 0, kept),
    )


def write_grown(
    file: BinaryIO,
    earlier: CollectionFile | None,
    network: Network,
    parts: Iterable[tuple[bytes, bytes]],
) -> None:
    """Write a collection with one more video: all chunks of `earlier` byte for byte, then `parts`,
    the types and payloads of the new video's chunks."""
    if earlier is None:
        file.write(chunks.preamble(chunks.COLLECTION))
        file.write(chunks.pack_chunk(chunks.HEADER, network.pack()))
    else:
        for piece in earlier.pieces():
            file.write(piece)
    for part in parts:
        file.write(chunks.pack_chunk(*part))
    file.write(chunks.pack_chunk(chunks.END, b""))


class CollectionFile:
    """An open .nervc file. Opening reads the header and the descriptions of all videos; every other
    chunk is checked when it is read, and `check_all` checks all chunks.

    Args:
        source: see NervFile.
        limits: resource limits for decoding a video.

    Attributes:
        name: file name for messages.
        size: file size in bytes.
        network: the shared network.
        entries: the videos in the order in which they were added.

    Raises:
        SourceError: the file is missing or unreadable, or the object cannot seek.
        FormatError: this is not a valid .nervc file.
    """

    def __init__(self, source: NervSource, limits: Limits | None = None) -> None:
        self.limits = Limits.of(limits)
        self._file = SeekableFile(source)
        self.name, self.size = self._file.name, self._file.size
        try:
            with self.naming():
                self.version = chunks.read_version(self._file, chunks.COLLECTION)
                self._chunks = list(chunks.scan(self._file, self.size, MOST_CHUNKS))
                self.network, self.entries = self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> tuple[Network, list[Entry]]:
        head, *listed, end = self._chunks
        if head.type != chunks.HEADER or end.length:
            raise FormatError("the file does not begin with a header and end with an empty mark")
        network = Network.unpack(chunks.read_payload(self._file, head))
        groups: list[dict[bytes, Chunk]] = []
        for chunk in listed:
            if chunk.type == VIDEO:
                groups.append({})
            elif chunk.type not in OF_A_VIDEO:
                check_skippable(chunk.type.decode(), "chunk")
            if not groups or chunk.type in groups[-1]:
                raise FormatError(f"chunk {chunk.type.decode()} is out of place")
            groups[-1][chunk.type] = chunk
        check_int(len(groups), "the number of videos", 1, MOST_VIDEOS)
        entries = [self._described(group, network) for group in groups]
        names = [entry.name for entry in entries]
        if len({*names}) < len(names):
            raise FormatError("two videos have the same name")
        if sum(entry.added for entry in entries) > network.weights:
            raise FormatError("the videos use more weights than the network has")
        return network, entries

    def _described(self, parts: dict[bytes, Chunk], network: Network) -> Entry:
        missing = [type.decode() for type, must in OF_A_VIDEO.items() if must and type not in parts]
        if missing:
            raise FormatError(f"a video lacks its {', '.join(missing)}")
        if chunks.SAMPLES in parts and chunks.CHECKS not in parts:
            raise FormatError("a video has a cSMP chunk but no cHCK")
        entry = Entry(*_entry(chunks.read_payload(self._file, parts[VIDEO])), parts)
        if (entry.header.width, entry.header.height) != (network.width, network.height):
            raise FormatError(f"video {printable(entry.name)} has frames of another size")
        return entry

    def index(self, name: str) -> int:
        """Return the index of the video called `name`. Raises UsageError, which lists the names."""
        names = [entry.name for entry in self.entries]
        if name not in names:
            known = printable(", ".join(names), 400)
            raise UsageError(f"{self.name}: no video {printable(name)!r}; choose from: {known}")
        return names.index(name)

    def payload(self, index: int, type: bytes) -> bytes:
        """Return the payload of a video's chunk, checksum verified. Raises FormatError."""
        with self.naming():
            return chunks.read_payload(self._file, self.entries[index].parts[type])

    def timing(self, index: int) -> Timing:
        """Return the frame timing of a video. Raises FormatError."""
        with self.naming():
            return unpack_timing(self.payload(index, chunks.TIMING), self.entries[index].frames)

    def checks(self, index: int) -> Checks | None:
        """Return the checks stored when the video was added, or None if there are none."""
        entry = self.entries[index]
        if chunks.CHECKS not in entry.parts:
            return None
        found = chunks.SAMPLES in entry.parts
        samples = self.payload(index, chunks.SAMPLES) if found else None
        with self.naming():
            return Checks.unpack(self.payload(index, chunks.CHECKS), samples, entry.frames)

    def check_all(self) -> None:
        """Verify the checksum of every chunk. Raises ChecksumError."""
        with self.naming():
            for chunk in self._chunks:
                chunks.check(self._file, chunk)

    def pieces(self) -> Iterator[bytes]:
        """Yield all bytes before the end mark, in pieces."""
        left = self.size - self._chunks[-1].size
        self._file.seek(0)
        while piece := self._file.read(min(left, chunks.PIECE)):
            left -= len(piece)
            yield piece

    @property
    def header_bytes(self) -> int:
        """Bytes on disk that belong to no video: the file size minus the bytes of all entries."""
        return self.size - sum(entry.bytes for entry in self.entries)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Prefix every FormatError raised inside with the file's name."""
        try:
            yield
        except FormatError as error:
            if str(error).startswith(self.name):
                raise
            raise type(error)(f"{self.name}: {error}") from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> CollectionFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

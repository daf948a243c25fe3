"""Assemble a .nerv file from segments that are fitted, coded and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nervkit.container.file import (
    SAMPLES,
    Checks,
    NervFile,
    pack_file,
    write_file,
)
from nervkit.container.header import Header, Segment
from nervkit.container.limits import UNLIMITED
from nervkit.container.segment import CONTEXTS, SegmentData
from nervkit.container.timing import pack_timing, unpack_timing
from nervkit.container.track import pack_track, unpack_track
from nervkit.decoder import NervVideo
from nervkit.errors import FormatError, Interrupted, LimitError, NervError, SourceError
from nervkit.media.extras import Extras
from nervkit.media.timing import Timing
from nervkit.media.track import Track
from nervkit.metrics import Quality
from nervkit.output import replacing
from nervkit.plan import FixedBytes
from nervkit.version import __version__
from nervkit.video.clip import Details


def new_header(width: int, height: int, details: Details, settings: str) -> Header:
    """Return a file's header without segments. `settings` are the encoding options."""
    return Header(
        width=width,
        height=height,
        sample_aspect_ratio=details.sample_aspect_ratio,
        colour=details.colour.to_dict(),
        source=details.source,
        edit=details.edit,
        encoder={"version": f"nervkit {__version__}", "settings": settings},
    )


def check_storable(width: int, height: int, details: Details) -> None:
    """Raise SourceError before the fit if a file cannot store the video's metadata."""
    try:
        timing = unpack_timing(pack_timing(details.timing), len(details.timing))
        parts = [part for track in details.tracks for part in track.parts]
        alone = [replace(part, later=()) for part in parts]
        if timing != details.timing or [unpack_track(pack_track(part)) for part in parts] != alone:
            raise FormatError("its timestamps or tracks do not survive a round trip")
        segment = Segment(len(details.timing), "any", {}, 1)
        new_header(width, height, details, "").of_segments([segment]).pack()
    except FormatError as error:
        raise SourceError(f"the source cannot be stored: {error}") from error


def bytes_besides_tensors(
    header: Header,
    timing: Timing,
    tracks: Sequence[Track],
    extras: Extras,
    psnr: float | None,
) -> FixedBytes:
    """Return the bytes of a file without its tensors, measured on a file with empty segments.
    `psnr` is any number if the file declares its quality, else None."""
    samples = np.zeros((header.frames, SAMPLES), np.uint8)
    checks = Checks(psnr, None, np.zeros(header.frames, np.uint32), samples)
    empty = [SegmentData.of((CONTEXTS, 1, b""))] * len(header.segments)
    whole = pack_file(header, timing, empty, tracks, checks, extras)
    video = pack_file(header, timing, empty, (), checks)
    return FixedBytes(len(whole), len(video))


@dataclass(frozen=True)
class FinishedSegment:
    """A segment that is ready to become part of a file.

    Attributes:
        file: path or bytes of a .nerv file of this segment alone, with its frame checks.
        samples: (frames, SAMPLES) uint8: samples of its frames, at the places for their positions
            in the video.
    """

    file: Path | bytes
    samples: np.ndarray


def assemble(
    output: Path,
    header: Header,
    details: Details,
    segments: Sequence[FinishedSegment],
    quality: Quality,
    stop: Callable[[], bool],
) -> list[str]:
    """Write a video's file from its segments, read it back, then rename it into place. One segment
    is in memory at a time.

    Args:
        header: without segments.
        details: timing, tracks and other metadata of the video.
        quality: that the file declares.
        stop: called before each segment; Interrupted is raised if it returns True.

    Returns:
        Notes on limits that a decoder of the file must raise.

    Raises:
        Interrupted: stopped.
        OutputError: the file cannot be written.
        NervError: the file reads back differently.
    """
    crcs: list[np.ndarray] = []

    def parts() -> Iterator[tuple[Segment, SegmentData]]:
        for segment, data, checks in _opened(segments, stop):
            crcs.append(checks.crcs)
            yield segment, data

    def checks() -> Checks:
        samples = np.concatenate([finished.samples for finished in segments])
        return Checks(quality.psnr, quality.ssim, np.concatenate(crcs), samples)

    with replacing(output) as partial:
        with partial.open("wb") as file:
            timing, tracks, extras = details.timing, details.tracks, details.extras
            write_file(file, header, timing, parts(), tracks, checks, extras)
        with NervFile(partial, UNLIMITED) as written:
            written.check_all()
            kept = (written.timing, written.tracks(), written.extras())
            same = kept == (timing, list(tracks), extras)
            for index, (_, data, _) in enumerate(_opened(segments, stop)):
                same = same and written.segment(index) == data
            if not same:
                raise NervError(f"{output}: reads back differently than written; check the disk")
        return over_limits(partial)


Opened = tuple[Segment, SegmentData, Checks]


def _opened(segments: Iterable[FinishedSegment], stop: Callable[[], bool]) -> Iterator[Opened]:
    """Yield the declaration, data and frame checks of each segment."""
    for finished in segments:
        if stop():
            raise Interrupted("stopped while writing the file", resumable=True)
        with NervFile(finished.file, UNLIMITED) as file:
            checks = file.checks()
            assert checks is not None, "a finished segment has frame checks"
            yield file.header.segments[0], file.segment(0), checks


def over_limits(path: Path) -> list[str]:
    """Return a note if the file exceeds the default limits of decoders."""
    try:
        NervVideo(path).close()
    except LimitError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [f"decoding this file needs a raised limit: {reason}"]
    return []

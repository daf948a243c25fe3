"""A .nerv file put together from segments that are fitted, coded and checked."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nervkit.container.file import (
    SAMPLES,
    Checks,
    NervFile,
    pack_file,
    sample_places,
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
from nervkit.metrics import Quality, mean_quality
from nervkit.output import replacing
from nervkit.plan import FixedBytes
from nervkit.version import __version__
from nervkit.video.clip import Details


def header_of(width: int, height: int, details: Details, settings: str) -> Header:
    """The header of a video's file, without its segments; `settings` says how it was encoded."""
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
    """Refuse before the fit what the file could not hold. Raises SourceError."""
    try:
        timing = unpack_timing(pack_timing(details.timing), len(details.timing))
        parts = [part for track in details.tracks for part in track.parts]
        alone = [replace(part, later=()) for part in parts]
        if timing != details.timing or [unpack_track(pack_track(part)) for part in parts] != alone:
            raise FormatError("times do not come back as they are")
        segment = Segment(len(details.timing), "any", {}, 1)
        header_of(width, height, details, "").of_segments([segment]).pack()
    except FormatError as error:
        raise SourceError(f"the source cannot be stored: {error}") from error


def bytes_besides_tensors(
    header: Header,
    timing: Timing,
    tracks: Sequence[Track],
    extras: Extras,
    psnr: float | None,
) -> FixedBytes:
    """The bytes of a file besides its tensors, by a file that has all but them. `psnr` is any
    number where the file is to state its quality, or None."""
    samples = np.zeros((header.frames, SAMPLES), np.uint8)
    checks = Checks(psnr, None, np.zeros(header.frames, np.uint32), samples)
    empty = [SegmentData.of((CONTEXTS, 1, b""))] * len(header.segments)
    whole = pack_file(header, timing, empty, tracks, checks, extras)
    video = pack_file(header, timing, empty, (), checks)
    return FixedBytes(len(whole), len(video))


class DecodedFrames:
    """What is kept of the frames that a file or a segment decodes to: their checks and their
    quality. The first one is frame `first` of its video."""

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._crcs: list[int] = []
        self._samples: list[np.ndarray] = []
        self._qualities: list[Quality] = []

    def add(self, frame: np.ndarray, quality: Quality) -> None:
        """The next frame, (H, W, 3) uint8, and its quality against a reference."""
        places = sample_places(self._first + len(self._crcs), frame.size)
        self._samples.append(frame.ravel()[places])
        self._crcs.append(zlib.crc32(frame))
        self._qualities.append(quality)

    @property
    def quality(self) -> Quality:
        """The mean over frames."""
        return mean_quality(self._qualities)

    @property
    def samples(self) -> np.ndarray:
        """(frames, SAMPLES) uint8."""
        return np.stack(self._samples)

    def checks(self, psnr: float | None, ssim: float | None) -> Checks:
        """The checks that the file stores, with the quality that it states."""
        return Checks(psnr, ssim, np.array(self._crcs, np.uint32), self.samples)


@dataclass(frozen=True)
class FinishedSegment:
    """A segment that is to become part of a file.

    Attributes:
        file: a .nerv file, or its bytes, that holds the segment alone, with its checks.
        samples: (frames, SAMPLES) uint8: the samples of its frames at their places in the video.
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
    """Write a video's file from its segments, read it back, and only then put it in place. In
    memory is one segment at a time.

    Args:
        header: without segments.
        details: what the video has besides frames.
        quality: that the file states.
        stop: asked before each segment; once True, Interrupted is raised.

    Returns:
        Notes on what others need to decode the file.

    Raises:
        Interrupted: stopped. OutputError, NervError: the disk did not take the file.
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
                raise NervError(f"{output}: the disk did not give back what was written")
        return over_limits(partial)


Opened = tuple[Segment, SegmentData, Checks]


def _opened(segments: Iterable[FinishedSegment], stop: Callable[[], bool]) -> Iterator[Opened]:
    for finished in segments:
        if stop():
            raise Interrupted("stopped while the file was written", resumable=True)
        with NervFile(finished.file, UNLIMITED) as file:
            checks = file.checks()
            assert checks is not None, "a finished segment has its checks"
            yield file.header.segments[0], file.segment(0), checks


def over_limits(path: Path) -> list[str]:
    """A note where a file declares more than decoders do by default."""
    try:
        NervVideo(path).close()
    except LimitError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [f"who decodes this file must raise a limit: {reason}"]
    return []

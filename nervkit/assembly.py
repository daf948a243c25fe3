"""A .nerv file put together from a clip and coded tensors, and decoded before it appears."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nervkit.container.extras import Extras
from nervkit.container.file import SAMPLES, Checks, pack_file, sample_places
from nervkit.container.header import Header, Segment
from nervkit.container.limits import UNLIMITED
from nervkit.container.segment import CONTEXTS, SegmentData
from nervkit.container.timing import Timing
from nervkit.container.track import Track
from nervkit.decoder import NervVideo, computed_ahead
from nervkit.errors import FormatError, Interrupted, LimitError, NervError, SourceError
from nervkit.fitting.metric import RGB, YUV
from nervkit.metrics import Quality, mean_quality, quality_of
from nervkit.output import replacing
from nervkit.plan import FixedBytes
from nervkit.selfcheck import SelfCheck
from nervkit.version import __version__
from nervkit.video.clip import Clip


def header_of(clip: Clip, settings: str, segment: Segment) -> Header:
    """The header of a clip's file, of one segment; `settings` says how it was encoded."""
    _, height, width, _ = clip.shape
    return Header(
        width=width,
        height=height,
        sample_aspect_ratio=clip.sample_aspect_ratio,
        colour=clip.colour.to_dict(),
        source=clip.source,
        edit=clip.edit,
        encoder={"version": f"nervkit {__version__}", "settings": settings},
        segments=(segment,),
    )


def check_storable(clip: Clip) -> None:
    """Refuse before the fit what the file could not hold. Raises SourceError."""
    try:
        timing = Timing.unpack(clip.timing.pack(), len(clip.timing))
        tracks = [Track.unpack(track.pack()) for track in clip.tracks]
        if (timing, tracks) != (clip.timing, list(clip.tracks)):
            raise FormatError("times do not come back as they are")
        header_of(clip, "", Segment(len(clip.frames), "any", {}, 1)).pack()
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
    """What is kept of the frames that a file decodes to: their checks and their quality."""

    def __init__(self) -> None:
        self._crcs: list[int] = []
        self._samples: list[np.ndarray] = []
        self._qualities: list[Quality] = []

    def add(self, frame: np.ndarray, quality: Quality) -> None:
        """The next frame, (H, W, 3) uint8, and its quality against a reference."""
        places = sample_places(len(self._crcs), frame.size)
        self._samples.append(frame.ravel()[places])
        self._crcs.append(zlib.crc32(frame))
        self._qualities.append(quality)

    @property
    def quality(self) -> Quality:
        """The mean over frames."""
        return mean_quality(self._qualities)

    def checks(self, psnr: float | None, ssim: float | None) -> Checks:
        """The checks that the file stores, with the quality that it states."""
        return Checks(psnr, ssim, np.array(self._crcs, np.uint32), np.stack(self._samples))


def write_checked(
    output: Path,
    header: Header,
    clip: Clip,
    segment: SegmentData,
    check: SelfCheck,
    stop: Callable[[], bool],
    metric: str = RGB,
) -> tuple[Quality, list[str]]:
    """Write a clip's file, decode it, add what the decode showed, and only then put it in place.

    Args:
        header, segment: of the file, besides what the clip has.
        check: of the fitted network, which this changes.
        stop: asked before each frame; once True, Interrupted is raised.
        metric: "yuv" for the quality of planes too.

    Returns:
        The decode's quality against the clip, and notes on it and on what others need to decode
        the file.

    Raises:
        Interrupted: stopped. ModelError: the file shows other frames than the fit. OutputError,
        NervError: the disk did not take the file.
    """
    with replacing(output) as partial:

        def write(checks: Checks | None) -> None:
            parts = (header, clip.timing, [segment], clip.tracks, checks, clip.extras)
            partial.write_bytes(pack_file(*parts))

        write(None)
        decoded = DecodedFrames()
        colour = clip.colour if metric == YUV else None
        with NervVideo(partial, limits=UNLIMITED) as video:
            notes = check.decoded(video)
            for reference, frame in zip(clip.frames, computed_ahead(iter(video)), strict=True):
                if stop():
                    raise Interrupted("stopped while the file was checked", resumable=True)
                decoded.add(frame, quality_of(reference, frame, colour))
        quality = decoded.quality
        write(decoded.checks(quality.psnr, quality.ssim))
        with NervVideo(partial, limits=UNLIMITED) as video:
            video.file.check_all()
            kept = (video.file.segment(0), video.timing, video.tracks, video.file.extras())
            if kept != (segment, clip.timing, list(clip.tracks), clip.extras):
                raise NervError(f"{output}: the disk did not give back what was written")
        return quality, notes + over_limits(partial)


def over_limits(path: Path) -> list[str]:
    """A note where a file declares more than decoders do by default."""
    try:
        NervVideo(path).close()
    except LimitError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [f"who decodes this file must raise a limit: {reason}"]
    return []

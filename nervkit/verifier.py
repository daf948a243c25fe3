"""Check a .nerv file: its checksums, its frames, and its quality against the source."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nervkit.container.file import Checks, sample_places
from nervkit.container.limits import Limits
from nervkit.container.settings import is_requantized
from nervkit.container.source import NervSource
from nervkit.decoder import NervVideo, computed_ahead
from nervkit.errors import SourceError, UsageError
from nervkit.metrics import Quality, mean_quality, quality_of
from nervkit.models.device import Device
from nervkit.networks import check_budget
from nervkit.video.clip import Clip
from nervkit.video.colour import Colour
from nervkit.video.edit import Edit
from nervkit.video.reader import Reading, changed_options, read_clip
from nervkit.video.tracks import track_packets


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    A file stores checks of the frames that its encoder decoded: a CRC-32 of each, and samples.
    "The encoder's frames" below are these.

    Attributes:
        input: path of the file.
        frames: number of frames.
        width: in pixels.
        height: in pixels.
        model: name of the first segment's model.
        parameters: stored values: weights, biases and embeddings.
        bytes: size of the file.
        bpp: bits per pixel, without tracks, tags, chapters and attachments.
        requantized: whether `requantize` made the file. The encoder's frames are then those that
            `requantize` decoded.
        identical: number of frames that equal the encoder's exactly. None where the file has no
            frame checks.
        wrong: number of frames of the reference decode that differ from the encoder's by more than
            rounding, as far as the stored samples show; without samples, of all that differ. None
            where the file has no frame checks.
        largest_difference: the largest difference of a sample, in 8-bit levels. 0 where all frames
            are identical; else between this decode and the reference decode (CPU, float32), where
            that is identical to the encoder's; None where this machine does not reproduce the
            encoder's frames.
        psnr: dB against the source, mean over frames of 8-bit RGB. None without a source.
        psnr_yuv: dB against the source, mean over frames of (6 Y + U + V) / 8 of the 8-bit 4:2:0
            planes that the RGB frames convert to with the file's matrix and range.
        ssim: against the source, mean over frames.
        frame_psnr: PSNR of each frame; empty without a source.
        frame_psnr_yuv: the same of the planes.
        frame_ssim: SSIM of each frame.
        seconds: wall time.
        notes: one line for everything that was assumed or is unusual.
    """

    input: str
    frames: int
    width: int
    height: int
    model: str
    parameters: int
    bytes: int
    bpp: float
    requantized: bool
    identical: int | None
    wrong: int | None
    largest_difference: int | None
    psnr: float | None
    psnr_yuv: float | None
    ssim: float | None
    frame_psnr: list[float]
    frame_psnr_yuv: list[float | None]
    frame_ssim: list[float | None]
    seconds: float
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; docs/json.md documents the keys."""
        return asdict(self)


def verify(
    source: NervSource,
    against: Any = None,
    *,
    device: Device = "cpu",
    limits: Limits | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **reading: Any,
) -> VerifyReport:
    """Verify every checksum of a .nerv file, decode every frame, and compare with the source.

    Args:
        source: as for `NervVideo`.
        against: the video that was encoded, as for `read_clip`. The stored options (start, frames,
            crop, resize, matrix, range, stream) are applied to it first, unless it is a Clip. None:
            compare with the file's own frame checks only.
        device: where to decode; "cpu" is the reference.
        limits: as for `NervVideo`.
        on_progress: called with (frames done, frames in all).
        **reading: `fps`, `size` and `pixel_format` of `against`, where its name does not say.

    Raises:
        FormatError: a checksum is wrong, or the file is otherwise invalid.
        SourceError: `against` cannot be read, or has other frames than the file.
        UsageError: an option of reading is wrong, or there is nothing to read.
    """
    began = time.perf_counter()
    if against is None and (unused := changed_options(reading)):
        option = unused[0].replace("_", "-")
        raise UsageError(f"--{option} says how to read the source: give --against too")
    if source == "-" == against:
        raise UsageError("standard input can be the .nerv file or the source, not both")
    Reading.from_options(**reading)  # found wrong before anything is decoded
    with NervVideo(source, device=device, limits=limits) as video:
        video.file.check_all()
        # All parts are read, so that what is impossible in one is found.
        checks, _, _ = video.file.checks(), video.file.extras(), video.timing
        with video.file.naming():
            check_budget(video.file, video.header.segments)
            colour = Colour.from_dict(video.header.colour)
            for track in video.tracks:
                track_packets(track)
        clip = None
        if against is not None:
            edit = Edit.from_dict(video.header.edit).to_dict()
            # The edit that the file states has made a Clip what it is.
            clip = against if isinstance(against, Clip) else read_clip(against, **edit, **reading)
            if clip.shape != video.shape:
                raise SourceError(
                    f"{against}: has {clip.shape[0]} frames of {clip.shape[2]}x{clip.shape[1]} "
                    f"after the stored edit, {video.file.name} has {len(video)} of "
                    f"{video.shape[2]}x{video.shape[1]}"
                )
        crcs, qualities = [], []
        for index, frame in enumerate(computed_ahead(iter(video))):
            crcs.append(zlib.crc32(frame))
            if clip is not None:
                qualities.append(quality_of(clip.frames[index], frame, colour))
            if on_progress is not None:
                on_progress(index + 1, len(video))
        notes = list(clip.notes) if clip is not None else []
        identical = wrong = largest = None
        if checks is None:
            notes.append("the file holds no frame checks: identity is not known")
        else:
            differing = np.flatnonzero(np.array(crcs, np.uint32) != checks.crcs).tolist()
            identical = len(video) - len(differing)
            wrong, largest = _compare(video, differing, checks)
            if largest is None and not wrong:
                notes.append("this machine rounds some samples otherwise than the encoder's")
            if wrong and checks.samples is None:
                notes.append("the file has no samples that tell rounding from damage")
        mean = mean_quality(qualities) if qualities else Quality(float("nan"), None)
        header = video.header
        return VerifyReport(
            input=video.file.name,
            frames=len(video),
            width=header.width,
            height=header.height,
            model=header.segments[0].model,
            parameters=header.values,
            bytes=video.file.size,
            bpp=video.file.bpp,
            requantized=is_requantized(header.encoder["settings"]),
            identical=identical,
            wrong=wrong,
            largest_difference=largest,
            psnr=mean.psnr if qualities else None,
            psnr_yuv=mean.psnr_yuv,
            ssim=mean.ssim,
            frame_psnr=[q.psnr for q in qualities],
            frame_psnr_yuv=[q.psnr_yuv for q in qualities],
            frame_ssim=[q.ssim for q in qualities],
            seconds=time.perf_counter() - began,
            notes=notes,
        )


def checked_against(requantized: bool) -> str:
    """What the frame checks of a file are of, in words."""
    if requantized:
        return "what the run that requantized the file decoded"
    return "what the encoder saw"


def is_wrong(frame: np.ndarray, index: int, checks: Checks) -> bool:
    """Whether frame `index` of the reference decode, (H, W, 3) uint8, differs by more than a
    rounding from the one that was checked, as far as the samples tell: at all where there are
    none."""
    if zlib.crc32(frame) == checks.crcs[index]:
        return False
    if checks.samples is None:
        return True
    found = frame.ravel()[sample_places(index, frame.size)].astype(np.int16)
    return bool((np.abs(found - checks.samples[index]) > 1).any())


def _compare(video: NervVideo, differing: list[int], checks: Checks) -> tuple[int, int | None]:
    """How many of the `differing` frames are wrong in the reference decode too, and the largest
    difference of `video` to it; None where that does not have the encoder's checksums either."""
    wrong, largest, reproduced = 0, 0, True
    with NervVideo(video.file) as reference:
        for index in differing:
            exact = reference[index]
            if zlib.crc32(exact) != checks.crcs[index]:
                reproduced = False
                wrong += is_wrong(exact, index, checks)
            else:
                largest = max(largest, int(np.abs(exact.astype(np.int16) - video[index]).max()))
    return wrong, largest if reproduced else None

"""Verify a .nerv file: its checksums, its frames, and its quality against the source."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np

from nervkit.choices import MatrixName, RangeName
from nervkit.container.file import Checks
from nervkit.container.limits import Limits
from nervkit.container.settings import is_requantized
from nervkit.container.source import NervSource
from nervkit.decoder import NervVideo, OnProgress, prefetched, with_progress
from nervkit.errors import SourceError, UsageError
from nervkit.framechecks import Match, match
from nervkit.keywords import checked_keywords, option
from nervkit.metrics import Quality, mean_quality, quality_of
from nervkit.models.device import Device
from nervkit.networks import check_budget
from nervkit.video.clip import Clip
from nervkit.video.colour import Colour
from nervkit.video.edit import Edit
from nervkit.video.reader import (
    Reading,
    ReadingOptions,
    VideoSource,
    changed_options,
    read_clip,
)
from nervkit.video.tracks import track_packets

MOST_LOSS = 3.0  # dB below the PSNR in the file; a source with less is probably another video


@dataclass(frozen=True)
class VerifyReport:
    """The result of `verify`.

    A file stores frame checks of what its encoder decoded: a CRC-32 of each frame, and samples.
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
        identical: number of frames that equal the encoder's exactly. None if the file has no frame
            checks.
        wrong: number of frames of the reference decode that differ from the encoder's by more than
            rounding, as far as the stored samples show; without samples, of all that differ. None
            if the file has no frame checks.
        largest_difference: the largest sample difference, in 8-bit levels. 0 if all frames are
            identical; else between this decode and the reference decode (CPU, float32), if that is
            identical to the encoder's; None if this machine does not reproduce the encoder's
            frames.
        psnr: dB against the source, mean over frames of 8-bit RGB. None without a source.
        psnr_yuv: dB against the source, mean over frames of (6 Y + U + V) / 8 of the 8-bit 4:2:0
            planes that the RGB frames convert to with the file's matrix and range.
        ssim: against the source, mean over frames.
        frame_psnr: PSNR of each frame; empty without a source.
        frame_psnr_yuv: the same of the planes.
        frame_ssim: SSIM of each frame.
        seconds: wall time.
        notes: one line for each assumption and irregularity.
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
        """Return JSON-ready values; docs/json.md documents the keys."""
        return asdict(self)


@checked_keywords
def verify(
    source: NervSource,
    against: VideoSource | None = None,
    *,
    start: str | float | None = None,
    to: str | float | None = None,
    duration: str | float | None = None,
    frames: str | int | slice | None = None,
    crop: str | tuple[int, ...] | None = None,
    resize: str | int | tuple[int, int] | None = None,
    matrix: MatrixName | None = None,
    range: RangeName | None = None,
    stream: str | int | None = None,
    audio: bool = True,
    subtitles: bool = True,
    fps: str | float | Fraction | None = None,
    size: str | tuple[int, int] | None = None,
    pixel_format: str | None = None,
    strict: bool = False,
    allow_network: bool = False,
    device: Device = "cpu",
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
) -> VerifyReport:
    """Verify every checksum of a .nerv file, decode every frame, and compare with the source.

    Args:
        source: as for `NervVideo`.
        against: the video that was encoded, as for `read_clip`. The stored options (start, frames,
            crop, resize, matrix, range, stream) are applied to it first, unless it is a Clip. None:
            compare with the file's own frame checks only.
        start, to, duration, frames, crop, resize, matrix, range, stream, audio, subtitles, fps,
            size, pixel_format, strict, allow_network: how to read `against`, as for `read_clip`.
            They override the stored options.
        device: where to decode; "cpu" is the reference.
        limits: as for `NervVideo`.
        on_progress: called with (frames done, total frames).

    Raises:
        FormatError: a checksum is wrong, or the file is otherwise invalid.
        SourceError: `against` cannot be read, or its frames differ in number or size.
        UsageError: a reading option is invalid, or there is no source to read.
        OptionError: an option does not exist.
    """
    began = time.perf_counter()
    reading: ReadingOptions = {
        "start": start,
        "to": to,
        "duration": duration,
        "frames": frames,
        "crop": crop,
        "resize": resize,
        "matrix": matrix,
        "range": range,
        "stream": stream,
        "audio": audio,
        "subtitles": subtitles,
        "fps": fps,
        "size": size,
        "pixel_format": pixel_format,
        "strict": strict,
        "allow_network": allow_network,
    }
    if against is None and (unused := changed_options(reading)):
        raise UsageError(
            f"{option(unused[0])} describes the source to compare with; give {option('against')} "
            "too"
        )
    if source == "-" == against:
        raise UsageError("only one of the .nerv file and the source can be standard input")
    Reading.from_options(**reading)  # raises for invalid options before anything is decoded
    with NervVideo(source, device=device, limits=limits) as video:
        checks = _check_parts(video)
        with video.file.naming():
            colour = Colour.from_dict(video.header.colour)
        clip = None if against is None else _read_source(against, video, reading)
        matches: list[Match] = []
        qualities: list[Quality] = []
        decoded = with_progress(prefetched(iter(video)), len(video), on_progress)
        for index, frame in enumerate(decoded):
            if checks is not None:
                matches.append(match(frame, index, checks))
            if clip is not None:
                qualities.append(quality_of(clip.frames[index], frame, colour))
        compared = _compare(video, matches, checks)
        notes = [*(clip.notes if clip is not None else ()), *compared.notes]
        if (note := _other_source_note(qualities, checks)) is not None:
            notes.append(note)
        return _report(video, compared, qualities, notes, began)


def _check_parts(video: NervVideo[np.ndarray]) -> Checks | None:
    """Verify all checksums and parse all parts of a file; return its frame checks."""
    file = video.file
    file.check_all()
    checks, _, _ = file.checks(), file.extras(), video.timing
    with file.naming():
        check_budget(file, video.header.segments)
        for track in video.tracks:
            track_packets(track)
    return checks


def _read_source(
    against: VideoSource, video: NervVideo[np.ndarray], reading: ReadingOptions
) -> Clip:
    """Read the source with the stored options. Raises SourceError if the shapes differ."""
    with video.file.naming():
        stored = Edit.from_dict(video.header.edit).to_dict()
    if isinstance(against, Clip):
        clip = against  # the stored options were applied to it before it was encoded
    else:
        given = {name: value for name, value in reading.items() if value is not None}
        clip = read_clip(against, **cast("ReadingOptions", stored | given))
    if clip.shape != video.shape:
        name = against if isinstance(against, (str, os.PathLike)) else "the source"
        raise SourceError(
            f"{name}: has {clip.shape[0]} frames of {clip.shape[2]}x{clip.shape[1]} "
            f"after the stored edit, {video.file.name} has {len(video)} of "
            f"{video.shape[2]}x{video.shape[1]}"
        )
    return clip


@dataclass(frozen=True)
class _Comparison:
    """Decoded frames compared with the frame checks: the fields of VerifyReport, and notes."""

    identical: int | None
    wrong: int | None
    largest_difference: int | None
    notes: tuple[str, ...]


def _compare(
    video: NervVideo[np.ndarray], matches: Sequence[Match], checks: Checks | None
) -> _Comparison:
    """Summarize the matches of all frames, and decode those that differ again as a reference."""
    if checks is None:
        note = "the file has no frame checks: verify cannot tell whether frames are identical"
        return _Comparison(None, None, None, (note,))
    differing = [index for index, found in enumerate(matches) if found is not Match.IDENTICAL]
    wrong, largest, reproduced = 0, 0, True
    with NervVideo(video.file) as reference:
        for index in differing:
            exact = reference[index]
            found = match(exact, index, checks)
            if found is Match.IDENTICAL:
                largest = max(largest, int(np.abs(exact.astype(np.int16) - video[index]).max()))
            else:
                reproduced = False
                wrong += found is Match.WRONG
    notes = []
    if not reproduced and not wrong:
        notes.append("this machine rounds some samples differently from the encoder's")
    if wrong and checks.samples is None:
        notes.append("the file has no samples, which distinguish rounding from damage")
    identical = len(video) - len(differing)
    return _Comparison(identical, wrong, largest if reproduced else None, tuple(notes))


def _other_source_note(qualities: Sequence[Quality], checks: Checks | None) -> str | None:
    """Return a note if the quality against the source is far below the one in the file, which
    then probably has another source."""
    if not qualities or checks is None or checks.psnr is None:
        return None
    if mean_quality(qualities).psnr >= checks.psnr - MOST_LOSS:
        return None
    return f"the file states {checks.psnr:.2f} dB against its source: this may be another video"


def _report(
    video: NervVideo[np.ndarray],
    compared: _Comparison,
    qualities: Sequence[Quality],
    notes: list[str],
    began: float,
) -> VerifyReport:
    header = video.header
    mean = mean_quality(qualities) if qualities else None
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
        identical=compared.identical,
        wrong=compared.wrong,
        largest_difference=compared.largest_difference,
        psnr=mean.psnr if mean else None,
        psnr_yuv=mean.psnr_yuv if mean else None,
        ssim=mean.ssim if mean else None,
        frame_psnr=[q.psnr for q in qualities],
        frame_psnr_yuv=[q.psnr_yuv for q in qualities],
        frame_ssim=[q.ssim for q in qualities],
        seconds=time.perf_counter() - began,
        notes=notes,
    )


def checks_origin(requantized: bool) -> str:
    """Return whose frames a file's frame checks describe, in words."""
    return "the requantizer's" if requantized else "the encoder's"

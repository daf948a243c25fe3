"""Segments of a source -> the jobs that fit them: how long, and for how many bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nervkit.encoding.allocation import BY_CONTENT, Content, allocated
from nervkit.encoding.segment import FrameRange, SegmentJob
from nervkit.encoding.work import WorkFolder
from nervkit.errors import Interrupted, UsageError
from nervkit.fitting.budget import DEFAULT_PRESET
from nervkit.fitting.options import FitOptions
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.target import LEAST_TENSOR_BYTES, Target, default_bytes
from nervkit.video.memory import available_memory
from nervkit.video.probe import content_bytes
from nervkit.video.reader import Reading, VideoSource, opened_once
from nervkit.video.selection import Selection
from nervkit.video.splitting import MOST_FRAMES, Segment, Splitter

LEAST_BITS = 2.0  # of a value in a fit through the quantizer to no target
#: x264's bytes for a frame (video.probe: content_bytes) over those of `default_bytes`, about, and
#: how far a segment may be from that
TYPICAL, MOST_CONTENT = 2.8, 4.0
PRESET_FRAMES = {"slow": 500, "placebo": 500}  # of a segment; MOST_FRAMES otherwise
LEAST_SEGMENT = 16  # frames
MEMORY_SHARE = 0.3  # of the free memory may hold the frames of segments in work,
HELD = 2  # each up to so many times
FEW_FRAMES, LEAST_SHARE = 100, 0.25  # a segment of fewer takes fewer of a preset's steps


@dataclass(frozen=True)
class Aim:
    """What the fits of a video's segments aim at.

    Attributes:
        options: of every fit.
        bits: of weights and embeddings, where these are quantized after a fit in float.
        target: what the user asked for; None: nothing.
        in_float: whether fits are in float where there is no target.
    """

    options: FitOptions
    bits: tuple[int, int]
    target: Target | None
    in_float: bool

    @property
    def of_the_whole(self) -> bool:
        """Whether all segments must be known before the first is fitted: for bytes, or a time, that
        they share."""
        return self.shared_bytes or self.options.time is not None

    @property
    def shared_bytes(self) -> bool:
        """Whether the target is a number of bytes for the whole file."""
        return self.target is not None and self.target.psnr is None

    def alone(self, frames: np.ndarray, one_of_several: bool = False) -> FitOptions:
        """The options of a fit to `frames` (T, H, W, 3) uint8, where these share no bytes with
        others. A default size of one of several segments follows from their content too."""
        shape = VideoShape(*frames.shape[:3])
        if self.target is not None:
            steps = self.options.steps_for(shape)
            expected = self.target.expected_bytes(frames, self.options.metric, steps)
            return replace(self.options, coded_bytes=expected, coded_psnr=self.target.psnr)
        if self.in_float:
            return self.options
        scale = 1.0
        if one_of_several:
            ratio = content_bytes(frames) * shape.frames / default_bytes(shape) / TYPICAL
            scale = float(np.clip(ratio, 1 / MOST_CONTENT, MOST_CONTENT)) ** BY_CONTENT
        return by_default(self.options, shape, scale)


def by_default(options: FitOptions, shape: VideoShape, scale: float) -> FitOptions:
    """The options of a fit without a target: with `scale` times the bytes that suit the video's
    size, and more where the model cannot be so small."""
    size = max(LEAST_TENSOR_BYTES, round(scale * default_bytes(shape)))
    options = replace(options, coded_bytes=size)
    network = options.model_type.skeleton(options.configure(shape), shape)
    least = round(LEAST_BITS * count_stored(network) / 8)
    return replace(options, coded_bytes=max(size, least))


def longest_segment(source: VideoSource, reading: Reading, preset: str | None, slots: int) -> int:
    """How many frames a segment has at the most: by the preset, and so that the segments in work
    take no more than MEMORY_SHARE of the free memory. Raises what opening the source raises."""
    most = PRESET_FRAMES.get(preset or DEFAULT_PRESET, MOST_FRAMES)
    if opened_once(source):
        return most
    selection = Selection(reading.open(source), reading.edit)
    picture = next(selection.source.pictures(), None)  # all have one size
    if picture is None:
        return most
    frame = selection.frame(picture).nbytes
    fits = int(MEMORY_SHARE * available_memory() / (HELD * frame * (slots + 1)))
    return max(LEAST_SEGMENT, min(most, fits))


class Planner:
    """Makes the jobs of several segments.

    Args:
        splitter: gives the segments.
        segments: those of it, some of which may have been taken already.
        aim: of the fits.
        work: where frames lie that cannot be read again.
        remote: whether the jobs are done by other processes.
        slots: how many are done at once.
        stop: asked for each segment; once True, Interrupted is raised.
    """

    def __init__(
        self,
        splitter: Splitter,
        segments: Iterable[Segment],
        aim: Aim,
        work: WorkFolder,
        remote: bool,
        slots: int,
        stop: Callable[[], bool],
    ) -> None:
        self._stop = stop
        self._splitter, self._segments, self._aim = splitter, segments, aim
        self._work, self._remote, self._slots = work, remote, slots
        self.count = self.frames = 0  # segments and frames so far
        self.expected_frames = splitter.expected_frames  # of all, about
        self.whole = False  # whether that is all

    def jobs(self, tensor_bytes: Callable[[int, VideoShape], int]) -> Iterator[SegmentJob]:
        """The jobs, in order, as they become known. `tensor_bytes` gives those of all segments for
        a target, of so many segments and of the video's shape, once all are known."""
        if self._aim.of_the_whole:
            yield from self._of_the_whole(tensor_bytes)
            return
        for segment in self._counted():
            options = self._aim.alone(segment.frames, one_of_several=True)
            frames = self._place(segment) if self._remote else segment.frames
            yield self._job(segment, frames, options)

    def _counted(self) -> Iterator[Segment]:
        for segment in self._segments:
            self.count += 1
            self.frames += len(segment.frames)
            if self._stop():
                raise Interrupted("stopped while the source was divided", resumable=True)
            yield segment
        self.whole = True

    def _of_the_whole(self, tensor_bytes: Callable[[int, VideoShape], int]) -> Iterator[SegmentJob]:
        if not self._splitter.source.rereadable:
            raise UsageError(
                f"{self._splitter.source.name}: cannot be read twice, which a size or a time that "
                "segments share needs; write it to a file first, or use --target-psnr, --preset or "
                "--segments off"
            )
        aim, jobs, contents = self._aim, [], []
        for segment in self._counted():
            if aim.shared_bytes:
                content = content_bytes(segment.frames)
                contents.append(Content(len(segment.frames), content))
                options = aim.options
            else:
                options = aim.alone(segment.frames, one_of_several=True)
            # The frames are read from their place when their turn comes.
            jobs.append(self._job(segment, self._place(segment), options))
            del segment
        if aim.shared_bytes:
            width, height = self._splitter.size
            total = tensor_bytes(len(jobs), VideoShape(self.frames, height, width))
            sizes = allocated(total, contents)
            pairs = zip(jobs, sizes, strict=True)
            jobs = [replace(j, options=replace(j.options, coded_bytes=size)) for j, size in pairs]
        for job in jobs:
            options = job.options
            if (seconds := options.budget.seconds) is not None:
                share = min(self._slots, len(jobs)) * job.shape.frames / self.frames
                options = replace(options, time=seconds * share)
            yield replace(job, options=options)

    def _job(
        self, segment: Segment, frames: np.ndarray | Path | FrameRange, options: FitOptions
    ) -> SegmentJob:
        shape = VideoShape(*segment.frames.shape[:3])
        return SegmentJob(
            index=segment.index,
            first=segment.first,
            shape=shape,
            frames=frames,
            fingerprint=segment.fingerprint,
            options=_shortened(options, shape),
            bits=self._aim.bits,
            colour=self._splitter.source.colour,
            asked=self._aim.target is not None,
        )

    def _place(self, segment: Segment) -> FrameRange | Path:
        """Where the frames are found later, and by another process."""
        locator = self._splitter.locator
        if locator is None:
            return self._work.frames(segment.index, segment.frames)
        mark = locator.before(segment.first)
        locator = replace(locator, marks=(mark,) if mark else ())
        return FrameRange(locator, segment.first, len(segment.frames), segment.fingerprint)


def _shortened(options: FitOptions, shape: VideoShape) -> FitOptions:
    """A preset's steps, fewer for a segment of few frames."""
    asked = (options.steps, options.epochs, options.time)
    steps = options.steps_for(shape)
    if asked != (None, None, None) or steps is None or shape.frames >= FEW_FRAMES:
        return options
    share = max(LEAST_SHARE, shape.frames / FEW_FRAMES)
    return replace(options, preset=None, steps=max(1, round(share * steps)))

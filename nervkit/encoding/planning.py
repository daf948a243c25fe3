"""Turn the segments of a source into jobs: plan the length and the bytes of each fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nervkit.encoding.allocation import COMPLEXITY_POWER, Complexity, allocate
from nervkit.encoding.segment import FrameRange, SegmentJob
from nervkit.encoding.work import WorkFolder
from nervkit.errors import Interrupted, UsageError
from nervkit.fitting.budget import DEFAULT_PRESET
from nervkit.fitting.options import FitOptions
from nervkit.keywords import option, setting
from nervkit.models.base import count_stored
from nervkit.models.config import VideoShape
from nervkit.target import MIN_TENSOR_BYTES, Target, default_bytes
from nervkit.video.memory import available_memory
from nervkit.video.probe import content_bytes
from nervkit.video.reader import Reading, VideoSource, is_single_use
from nervkit.video.selection import Selection
from nervkit.video.splitting import MOST_FRAMES, Segment, Splitter

MIN_BITS = 2.0  # per value, of a fit through the quantizer without a target
#: Typical ratio of x264's bytes (video.probe: content_bytes) to `default_bytes`, and the largest
#: factor by which a segment may be above or below it.
TYPICAL_COMPLEXITY, MAX_COMPLEXITY = 2.8, 4.0
PRESET_FRAMES = {"slow": 500, "placebo": 500}  # most frames of a segment; else MOST_FRAMES
MIN_SEGMENT_FRAMES = 16
MEMORY_SHARE = 0.3  # of the free memory, for the frames of running segments
FRAME_COPIES = 2  # of these frames, at most, at a time
FULL_FIT_FRAMES = 100  # a shorter segment takes fewer of a preset's steps,
MIN_STEP_SHARE = 0.25  # but at least this share


@dataclass(frozen=True)
class Aim:
    """The options and the target of all fits of a video.

    Attributes:
        options: the options of every fit.
        bits: bit depths of weights and of embeddings, if a float fit is quantized to them.
        target: the target of the user; None without one.
        float_fit: whether a fit without a target is a float fit, quantized afterwards.
    """

    options: FitOptions
    bits: tuple[int, int]
    target: Target | None
    float_fit: bool

    @property
    def needs_all_segments(self) -> bool:
        """Whether all segments must be known before the first fit, because they share bytes or a
        time."""
        return self.shares_bytes or self.options.time is not None

    @property
    def shares_bytes(self) -> bool:
        """Whether the target is a number of bytes for the file, which segments share."""
        return self.target is not None and self.target.psnr is None

    def options_for(self, frames: np.ndarray, one_of_several: bool = False) -> FitOptions:
        """Return the options of a fit to `frames` (T, H, W, 3) uint8, unless segments share bytes.
        The default size of one of several segments also depends on their complexity."""
        shape = VideoShape(*frames.shape[:3])
        if self.target is not None:
            steps = self.options.steps_for(shape)
            expected = self.target.expected_bytes(frames, self.options.metric, steps)
            return replace(self.options, coded_bytes=expected, coded_psnr=self.target.psnr)
        if self.float_fit:
            return self.options
        scale = 1.0
        if one_of_several:
            ratio = content_bytes(frames) * shape.frames / default_bytes(shape)
            ratio = ratio / TYPICAL_COMPLEXITY
            scale = float(np.clip(ratio, 1 / MAX_COMPLEXITY, MAX_COMPLEXITY)) ** COMPLEXITY_POWER
        return _default_size(self.options, shape, scale)


def _default_size(options: FitOptions, shape: VideoShape, scale: float) -> FitOptions:
    """Return the options of a fit without a target: `scale` times the default bytes of the video's
    size, but no fewer than the model's smallest network needs."""
    size = max(MIN_TENSOR_BYTES, round(scale * default_bytes(shape)))
    options = replace(options, coded_bytes=size)
    network = options.model_type.skeleton(options.configure(shape), shape)
    least = round(MIN_BITS * count_stored(network) / 8)
    return replace(options, coded_bytes=max(size, least))


def longest_segment(source: VideoSource, reading: Reading, preset: str | None, slots: int) -> int:
    """Return the most frames of a segment: those of the preset, or fewer, so that `slots` running
    segments fit into MEMORY_SHARE of the free memory. Raises what opening the source raises."""
    most = PRESET_FRAMES.get(preset or DEFAULT_PRESET, MOST_FRAMES)
    if is_single_use(source):
        return most
    selection = Selection(reading.open(source), reading.edit)
    picture = next(selection.source.pictures(), None)  # all have the same size
    if picture is None:
        return most
    frame = selection.frame(picture).nbytes
    fits = int(MEMORY_SHARE * available_memory() / (FRAME_COPIES * frame * (slots + 1)))
    return max(MIN_SEGMENT_FRAMES, min(most, fits))


class Planner:
    """Makes the jobs of several segments.

    Args:
        splitter: the source that is split.
        segments: its segments; the caller may have buffered the first ones.
        aim: the options and the target of the fits.
        work: the folder for frames of a source that cannot be read again.
        remote: whether other processes run the jobs.
        slots: number of jobs that run in parallel.
        stop: called for each segment. Once it returns True, Interrupted is raised.

    Attributes:
        segment_count, frame_count: segments and frames split so far.
        expected_frames: estimated frames of the whole source; None if only reading can tell.
        complete: whether the source is split to its end.
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
        self.segment_count = self.frame_count = 0
        self.expected_frames = splitter.expected_frames
        self.complete = False

    def jobs(self, tensor_bytes: Callable[[int, VideoShape], int]) -> Iterator[SegmentJob]:
        """Yield the jobs in order, each as soon as it is known.

        Args:
            tensor_bytes: returns the bytes that a target leaves for the tensors of all segments,
                given the number of segments and the shape of the video. It is called once all
                segments are known.
        """
        if self._aim.needs_all_segments:
            yield from self._jobs_with_shares(tensor_bytes)
            return
        for segment in self._count_segments():
            options = self._aim.options_for(segment.frames, one_of_several=True)
            frames = self._store_frames(segment) if self._remote else segment.frames
            yield self._job(segment, frames, options)

    def _count_segments(self) -> Iterator[Segment]:
        for segment in self._segments:
            self.segment_count += 1
            self.frame_count += len(segment.frames)
            if self._stop():
                raise Interrupted("stopped while the source was split", resumable=True)
            yield segment
        self.complete = True

    def _jobs_with_shares(
        self, tensor_bytes: Callable[[int, VideoShape], int]
    ) -> Iterator[SegmentJob]:
        """Yield the jobs of segments that share bytes or a time, after the source is split."""
        if not self._splitter.source.rereadable:
            raise UsageError(
                f"{self._splitter.source.name}: a size or a time that segments share needs a "
                "source that can be read twice; write it to a file first, or use "
                f"{option('target_psnr')}, {option('preset')} or {setting('segments', 'off')}"
            )
        aim, jobs, complexities = self._aim, [], []
        for segment in self._count_segments():
            if aim.shares_bytes:
                frame_bytes = content_bytes(segment.frames)
                complexities.append(Complexity(len(segment.frames), frame_bytes))
                options = aim.options
            else:
                options = aim.options_for(segment.frames, one_of_several=True)
            # Only the place of the frames is kept: memory must not grow with the video.
            jobs.append(self._job(segment, self._store_frames(segment), options))
            del segment
        if aim.shares_bytes:
            width, height = self._splitter.size
            total = tensor_bytes(len(jobs), VideoShape(self.frame_count, height, width))
            sizes = allocate(total, complexities)
            pairs = zip(jobs, sizes, strict=True)
            jobs = [replace(j, options=replace(j.options, coded_bytes=size)) for j, size in pairs]
        for job in jobs:
            options = job.options
            if (seconds := options.budget.seconds) is not None:
                share = min(self._slots, len(jobs)) * job.shape.frames / self.frame_count
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
            options=_shorten_preset(options, shape),
            bits=self._aim.bits,
            colour=self._splitter.source.colour,
            user_target=self._aim.target is not None,
        )

    def _store_frames(self, segment: Segment) -> FrameRange | Path:
        """Return a place from which any process can load the frames later: their range in the
        source, or a file if the source cannot be read again."""
        locator = self._splitter.locator
        if locator is None:
            return self._work.save_frames(segment.index, segment.frames)
        mark = locator.before(segment.first)
        locator = replace(locator, marks=(mark,) if mark else ())
        return FrameRange(locator, segment.first, len(segment.frames), segment.fingerprint)


def _shorten_preset(options: FitOptions, shape: VideoShape) -> FitOptions:
    """Reduce a preset's steps for a segment of few frames."""
    given = (options.steps, options.epochs, options.time)
    steps = options.steps_for(shape)
    if given != (None, None, None) or steps is None or shape.frames >= FULL_FIT_FRAMES:
        return options
    share = max(MIN_STEP_SHARE, shape.frames / FULL_FIT_FRAMES)
    return replace(options, preset=None, steps=max(1, round(share * steps)))

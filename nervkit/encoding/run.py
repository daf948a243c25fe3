"""All segments of a video, fitted by an executor, as they become known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nervkit.encoding.executors import Executor, Follower, Work
from nervkit.encoding.planning import Planner
from nervkit.encoding.segment import SegmentJob, SegmentReport
from nervkit.encoding.work import WorkFolder
from nervkit.fitting.progress import REPORT_SECONDS, Progress
from nervkit.models.config import VideoShape


@dataclass(frozen=True)
class SegmentsProgress:
    """Where the fits of a video's segments are.

    Attributes:
        done: segments that are finished.
        known: segments that are known so far; `whole` says whether these are all.
        running: the fits that run, by the index of their segment.
        frames_done: frames of finished segments, and their share of those that run.
        frames: of all that is known.
        expected_frames: of the whole video, about, while not all of it is known; None where only
            reading can tell.
        seconds_left: None before it can be told.
    """

    done: int
    known: int
    whole: bool
    running: dict[int, Progress]
    frames_done: float
    frames: int
    expected_frames: int | None
    seconds_left: float | None


@dataclass
class SegmentRun:
    """Fits the segments of a planner's jobs, and keeps what is finished in a work folder, so that
    the same run goes on where an earlier one ended.

    Attributes:
        reports: of what is finished, by the index of its segment.
    """

    planner: Planner
    work: WorkFolder
    executor: Executor
    on_progress: Callable[[SegmentsProgress], None] | None
    on_note: Callable[[str], None]
    stop: Callable[[], bool]
    reports: dict[int, SegmentReport] = field(default_factory=dict)
    _running: dict[int, tuple[int, Progress | None]] = field(default_factory=dict)
    _fitted: int = 0  # frames of segments that this run finished
    _began: float = field(default_factory=time.perf_counter)
    _told: float = 0.0
    _told_whole: bool = False

    def fit(self, tensor_bytes: Callable[[int, VideoShape], int]) -> list[SegmentReport]:
        """The reports of all segments, in order. `tensor_bytes` as of `Planner.jobs`."""
        self._tell(always=True)
        follower = Follower(self._progress, self.on_note, self.stop)
        work = self._to_do(self.planner.jobs(tensor_bytes))
        for job, content, report in self.executor.run(work, follower):
            self.work.keep(job, content, report)
            self.reports[job.index] = report
            self._running.pop(job.index, None)
            self._fitted += report.frames
            self._tell(always=True)
        if not self._told_whole:
            self._tell(always=True)
        return [self.reports[index] for index in sorted(self.reports)]

    def _to_do(self, jobs: Iterator[SegmentJob]) -> Work:
        """The jobs that are not finished, and where their checkpoints lie."""
        for job in jobs:
            report = self.work.finished(job)
            if report is not None:
                self.reports[job.index] = report
                self._tell(always=True)
                continue
            self._running[job.index] = job.shape.frames, None
            yield job, self.work.checkpoint(job.index)

    def _progress(self, index: int, progress: Progress) -> None:
        frames, _ = self._running.get(index, (0, None))
        self._running[index] = frames, progress
        self._tell()

    def _tell(self, always: bool = False) -> None:
        now = time.perf_counter()
        if self.on_progress is None or not (always or now - self._told >= REPORT_SECONDS):
            return
        self._told, self._told_whole = now, self.planner.whole
        under_way = sum(n * p.step / max(1, p.steps) for n, p in self._running.values() if p)
        finished = sum(report.frames for report in self.reports.values())
        made, left, total = self._fitted + under_way, None, self.planner.frames
        expected = None if self.planner.whole else self.planner.expected_frames
        if expected is not None:
            total = expected = max(expected, total)
        if made and (self.planner.whole or expected is not None):
            left = (total - finished - under_way) * (now - self._began) / made
        self.on_progress(
            SegmentsProgress(
                done=len(self.reports),
                known=self.planner.count,
                whole=self.planner.whole,
                running={index: p for index, (_, p) in self._running.items() if p},
                frames_done=finished + under_way,
                frames=self.planner.frames,
                expected_frames=expected,
                seconds_left=left,
            )
        )

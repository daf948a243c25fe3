"""Run the fits of all segments of a video on an executor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nervkit.encoding.executors import Executor, ExecutorCallbacks, JobQueue
from nervkit.encoding.planning import Planner
from nervkit.encoding.segment import SegmentJob, SegmentReport
from nervkit.encoding.work import WorkFolder
from nervkit.fitting.progress import REPORT_SECONDS, Progress
from nervkit.models.config import VideoShape


@dataclass(frozen=True)
class SegmentsProgress:
    """Progress of the fits of a video's segments.

    Attributes:
        done: number of finished segments.
        known: number of segments split from the source so far.
        whole: whether the source is split to its end, so that `known` and `frames` are final.
        running: progress of each running fit, by the index of its segment.
        frames_done: frames of finished segments, plus the finished share of running ones.
        frames: frames of all known segments.
        expected_frames: estimated frames of the whole video. None once all segments are known, and
            if only reading can tell.
        seconds_left: estimated time left; None while there is no estimate.
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
    """Fits the jobs of a planner and keeps finished segments in a work folder, so that the same run
    resumes where an earlier one ended.

    Attributes:
        reports: reports of finished segments, by the index of the segment.
    """

    planner: Planner
    work: WorkFolder
    executor: Executor
    on_progress: Callable[[SegmentsProgress], None] | None
    on_note: Callable[[str], None]
    stop: Callable[[], bool]
    reports: dict[int, SegmentReport] = field(default_factory=dict)
    _running: dict[int, tuple[int, Progress | None]] = field(default_factory=dict)
    _fitted: int = 0  # frames of the segments that this run finished
    _began: float = field(default_factory=time.perf_counter)
    _reported: float = 0.0  # time of the last progress report
    _reported_complete: bool = False

    def fit(self, tensor_bytes: Callable[[int, VideoShape], int]) -> list[SegmentReport]:
        """Fit all segments and return their reports in order. For `tensor_bytes` see
        `Planner.jobs`."""
        self._report(always=True)
        callbacks = ExecutorCallbacks(self._on_progress, self.on_note, self.stop)
        queue = self._unfinished(self.planner.jobs(tensor_bytes))
        for job, content, report in self.executor.run(queue, callbacks):
            self.work.keep(job, content, report)
            self.reports[job.index] = report
            self._running.pop(job.index, None)
            self._fitted += report.frames
            self._report(always=True)
        if not self._reported_complete:
            self._report(always=True)
        return [self.reports[index] for index in sorted(self.reports)]

    def _unfinished(self, jobs: Iterator[SegmentJob]) -> JobQueue:
        """Yield the jobs that are not finished, with the places of their checkpoints."""
        for job in jobs:
            report = self.work.finished(job)
            if report is not None:
                self.reports[job.index] = report
                self._report(always=True)
                continue
            self._running[job.index] = job.shape.frames, None
            yield job, self.work.checkpoint(job.index)

    def _on_progress(self, index: int, progress: Progress) -> None:
        frames, _ = self._running.get(index, (0, None))
        self._running[index] = frames, progress
        self._report()

    def _report(self, always: bool = False) -> None:
        """Report progress every REPORT_SECONDS, or `always`."""
        now = time.perf_counter()
        if self.on_progress is None or not (always or now - self._reported >= REPORT_SECONDS):
            return
        planner = self.planner
        self._reported, self._reported_complete = now, planner.complete
        running = sum(n * p.step / max(1, p.steps) for n, p in self._running.values() if p)
        finished = sum(report.frames for report in self.reports.values())
        total = planner.frame_count
        expected = None if planner.complete else planner.expected_frames
        if expected is not None:
            total = expected = max(expected, total)
        left, pace = None, self._pace(now, running)
        if pace and (planner.complete or expected is not None):
            left = (total - finished - running) / pace
        self.on_progress(
            SegmentsProgress(
                done=len(self.reports),
                known=planner.segment_count,
                whole=planner.complete,
                running={index: p for index, (_, p) in self._running.items() if p},
                frames_done=finished + running,
                frames=planner.frame_count,
                expected_frames=expected,
                seconds_left=left,
            )
        )

    def _pace(self, now: float, running: float) -> float:
        """Return fitted frames per second: of all fits so far, or of the running ones while none is
        finished, so that the time in which workers start does not count. `running` is the number of
        frames that the running fits have completed."""
        if self._fitted:
            return (self._fitted + running) / (now - self._began)
        fits = self._running.values()
        return sum(n * p.steps_per_second / max(1, p.steps) for n, p in fits if p)

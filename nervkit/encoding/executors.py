"""Who fits segments: this process, or several beside it. A cluster is in `ray.py`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any

import torch

from nervkit import errors
from nervkit.encoding.segment import SegmentJob, SegmentReport, fit_segment
from nervkit.errors import Interrupted, NervError, ResourceError
from nervkit.fitting.job import CheckpointOptions, Watch
from nervkit.fitting.progress import Progress
from nervkit.fitting.threads import most_threads

Work = Iterator[tuple[SegmentJob, CheckpointOptions]]  # what to fit, and where its checkpoint lies
Fitted = tuple[SegmentJob, bytes, SegmentReport]
MOST_ATTEMPTS = 3  # at a segment whose worker was killed
LOOK_SECONDS = 0.2  # between looks at who was stopped


@dataclass(frozen=True)
class Follower:
    """Who follows the fits of segments.

    Attributes:
        on_progress: called with a segment's index and where its fit is.
        on_note: called with what was mended or tried again.
        stop: asked now and then; once True, all fits end with their checkpoints, and Interrupted is
            raised.
    """

    on_progress: Callable[[int, Progress], None] = lambda index, progress: None
    on_note: Callable[[str], None] = lambda note: None
    stop: Callable[[], bool] = lambda: False


class Executor(ABC):
    """Fits segments, some at once."""

    #: how many are fitted at once
    slots: int
    #: whether jobs are sent to other processes, so that frames are better read than sent
    remote: bool

    @abstractmethod
    def run(self, work: Work, follower: Follower) -> Iterator[Fitted]:
        """Fit all jobs of `work`, which are taken as workers become free, and give what is finished
        in the order in which it is. Raises what a fit raises, after the others were stopped."""


@dataclass(frozen=True)
class InProcess(Executor):
    """One segment after another, here."""

    slots: int = 1
    remote: bool = False

    def run(self, work: Work, follower: Follower) -> Iterator[Fitted]:
        for job, keep in work:
            yield job, *fit_segment(job, keep, _watch(job, follower))


def _watch(job: SegmentJob, follower: Follower) -> Watch:
    def on_progress(progress: Progress) -> None:
        follower.on_progress(job.index, progress)

    return Watch(on_progress, follower.on_note, follower.stop)


@dataclass
class _Worker:
    """A process that fits one segment."""

    job: SegmentJob
    keep: CheckpointOptions
    attempt: int
    device: int
    process: BaseProcess
    pipe: Connection
    stopped: Event


@dataclass
class Processes(Executor):
    """Several at once, each in a process of its own, which divide the processors. Where there are
    GPUs, each process gets one of them in turn."""

    slots: int
    remote: bool = True
    _running: list[_Worker] = field(default_factory=list)

    def run(self, work: Work, follower: Follower) -> Iterator[Fitted]:
        threads = max(1, most_threads() // self.slots)
        try:
            while True:
                while len(self._running) < self.slots and (taken := next(work, None)) is not None:
                    job, keep = taken
                    self._start(replace(job, threads=job.threads or threads), keep, 1)
                if not self._running:
                    return
                if follower.stop():
                    raise Interrupted("stopped while segments were fitted", resumable=True)
                yield from self._look(follower)
        finally:
            self._stop()

    def _start(self, job: SegmentJob, keep: CheckpointOptions, attempt: int) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        stopped = context.Event()
        taken = {worker.device for worker in self._running}
        device = min(set(range(self.slots)) - taken)
        process = context.Process(
            target=_work,
            args=(job, keep, theirs, stopped, device),
            name=f"nervkit-segment-{job.index}",
        )
        process.start()
        theirs.close()
        self._running.append(_Worker(job, keep, attempt, device, process, ours, stopped))

    def _look(self, follower: Follower) -> Iterator[Fitted]:
        """Take what workers send."""
        pipes = {worker.pipe: worker for worker in self._running}
        for pipe in wait(list(pipes), LOOK_SECONDS):
            worker = pipes[pipe]  # type: ignore[index]
            try:
                kind, content = worker.pipe.recv()
            except (EOFError, ConnectionError):
                self._end(worker)
                self._try_again(worker, follower)
                continue
            if kind == "progress":
                follower.on_progress(worker.job.index, content)
            elif kind == "note":
                follower.on_note(content)
            elif kind == "error":
                self._end(worker)
                raise error_of(*content)
            else:
                self._end(worker)
                yield worker.job, *content

    def _try_again(self, worker: _Worker, follower: Follower) -> None:
        what = f"the worker of segment {worker.job.index} ended ({_ending(worker.process)})"
        if worker.attempt == MOST_ATTEMPTS:
            raise NervError(
                f"{what} {MOST_ATTEMPTS} times; is there enough memory for {self.slots} workers? "
                "The same command goes on from its checkpoints"
            )
        follower.on_note(f"{what}: it is tried again from its checkpoint")
        self._start(worker.job, worker.keep, worker.attempt + 1)

    def _end(self, worker: _Worker) -> None:
        self._running.remove(worker)
        worker.process.join()
        worker.pipe.close()

    def _stop(self) -> None:
        """Let all workers save their checkpoints, and end."""
        for worker in self._running:
            worker.stopped.set()
        for worker in list(self._running):
            while worker.process.is_alive():
                if worker.pipe.poll(LOOK_SECONDS):
                    try:
                        worker.pipe.recv()
                    except (EOFError, ConnectionError):
                        break
            self._end(worker)


def _ending(process: BaseProcess) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _work(
    job: SegmentJob,
    keep: CheckpointOptions,
    pipe: Connection,
    stopped: Event,
    device: int,
) -> None:
    """What a worker does. A terminal's Ctrl-C is the parent's to answer."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    if torch.cuda.is_available() and job.options.device in ("auto", "cuda"):
        chosen = f"cuda:{device % torch.cuda.device_count()}"
        job = replace(job, options=replace(job.options, device=chosen))
    parent, asked = os.getppid(), time.monotonic()

    def stop() -> bool:
        nonlocal asked
        if time.monotonic() - asked < LOOK_SECONDS:
            return False
        asked = time.monotonic()
        return stopped.is_set() or os.getppid() != parent  # whose work it was is gone

    def send(kind: str, content: Any) -> None:
        try:
            pipe.send((kind, content))
        except (BrokenPipeError, ConnectionError):
            stopped.set()

    watch = Watch(
        on_progress=lambda progress: send("progress", progress),
        on_note=lambda note: send("note", note),
        stop=stop,
    )
    try:
        send("done", fit_segment(job, keep, watch))
    except NervError as error:
        send("error", described(error))
    except MemoryError:
        send("error", (ResourceError.__name__, f"segment {job.index}: memory ran out"))


def described(error: NervError) -> tuple[str, str]:
    """An error as two texts: which of nervkit's it is, and its message."""
    known = (kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return next(known).__name__, str(error)


def error_of(kind: str, message: str) -> NervError:
    """The inverse."""
    return getattr(errors, kind)(message)

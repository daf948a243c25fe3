"""Who fits segments: this process, or several beside it. A cluster is in `ray.py`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any

import torch

from nervkit import errors
from nervkit.encoding.segment import SegmentJob, SegmentReport, fit_segment
from nervkit.environment import keep_freed_memory
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


@dataclass(frozen=True)
class _Task:
    """A segment to fit, for the `attempt`-th time."""

    job: SegmentJob
    keep: CheckpointOptions
    attempt: int = 1


@dataclass
class _Worker:
    """A process that fits one segment after another; `task` is in work."""

    device: int
    process: BaseProcess
    pipe: Connection
    stopped: Event
    task: _Task | None = None

    def begin(self, task: _Task) -> None:
        self.task = task
        with suppress(BrokenPipeError, ConnectionError):  # its end is seen at the next look
            self.pipe.send((task.job, task.keep))

    def finish(self) -> _Task:
        task, self.task = self.task, None
        assert task is not None
        return task


@dataclass
class Processes(Executor):
    """Several at once, each in a process of its own, which divide the processors. Where there are
    GPUs, each process gets one of them in turn."""

    slots: int
    remote: bool = True
    _workers: list[_Worker] = field(default_factory=list)

    def run(self, work: Work, follower: Follower) -> Iterator[Fitted]:
        threads = max(1, most_threads() // self.slots)
        try:
            while True:
                while len(self._busy) < self.slots and (taken := next(work, None)) is not None:
                    job, keep = taken
                    self._begin(_Task(replace(job, threads=job.threads or threads), keep))
                if not self._busy:
                    return
                if follower.stop():
                    raise Interrupted("stopped while segments were fitted", resumable=True)
                yield from self._look(follower)
        finally:
            self._stop()

    @property
    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    def _begin(self, task: _Task) -> None:
        idle = next((worker for worker in self._workers if worker.task is None), None)
        (idle or self._started()).begin(task)

    def _started(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        stopped = context.Event()
        device = min(set(range(self.slots)) - {worker.device for worker in self._workers})
        process = context.Process(
            target=_work, args=(theirs, stopped, device), name=f"nervkit-worker-{device}"
        )
        process.start()
        theirs.close()
        worker = _Worker(device, process, ours, stopped)
        self._workers.append(worker)
        return worker

    def _look(self, follower: Follower) -> Iterator[Fitted]:
        """Take what workers send."""
        pipes = {worker.pipe: worker for worker in self._busy}
        for pipe in wait(list(pipes), LOOK_SECONDS):
            worker = pipes[pipe]  # type: ignore[index]
            try:
                kind, content = worker.pipe.recv()
            except (EOFError, ConnectionError):
                self._end(worker)
                self._try_again(worker.finish(), _ending(worker.process), follower)
                continue
            if kind == "progress":
                follower.on_progress(*content)
            elif kind == "note":
                follower.on_note(content)
            elif kind == "error":
                worker.finish()
                raise error_of(*content)
            else:
                yield worker.finish().job, *content

    def _try_again(self, task: _Task, ending: str, follower: Follower) -> None:
        what = f"the worker of segment {task.job.index} ended ({ending})"
        if task.attempt == MOST_ATTEMPTS:
            raise NervError(
                f"{what} {MOST_ATTEMPTS} times; is there enough memory for {self.slots} workers? "
                "The same command goes on from its checkpoints"
            )
        follower.on_note(f"{what}: it is tried again from its checkpoint")
        self._begin(replace(task, attempt=task.attempt + 1))

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.join()
        worker.pipe.close()

    def _stop(self) -> None:
        """Let all workers save their checkpoints, and end."""
        for worker in self._workers:
            worker.stopped.set()
            with suppress(BrokenPipeError, ConnectionError):
                worker.pipe.send(None)
        for worker in list(self._workers):
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


def _work(pipe: Connection, stopped: Event, device: int) -> None:
    """What a worker does, until it is given no more. A terminal's Ctrl-C is the parent's to
    answer."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()
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

    def fit(job: SegmentJob, keep: CheckpointOptions) -> None:
        if torch.cuda.is_available() and job.options.device in ("auto", "cuda"):
            chosen = f"cuda:{device % torch.cuda.device_count()}"
            job = replace(job, options=replace(job.options, device=chosen))
        watch = Watch(
            on_progress=lambda progress: send("progress", (job.index, progress)),
            on_note=lambda note: send("note", note),
            stop=stop,
        )
        try:
            send("done", fit_segment(job, keep, watch))
        except NervError as error:
            send("error", described(error))
        except MemoryError:
            send("error", (ResourceError.__name__, f"segment {job.index}: memory ran out"))

    with suppress(EOFError, ConnectionError):  # the parent has ended
        while (task := pipe.recv()) is not None:
            fit(*task)


def described(error: NervError) -> tuple[str, str]:
    """An error as two texts: which of nervkit's it is, and its message."""
    known = (kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return next(known).__name__, str(error)


def error_of(kind: str, message: str) -> NervError:
    """The inverse."""
    return getattr(errors, kind)(message)

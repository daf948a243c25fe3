"""Executors: fit segments in this process or in several local ones. `ray.py` has the cluster."""

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
from nervkit.fitting.job import CheckpointOptions, FitCallbacks
from nervkit.fitting.progress import Progress
from nervkit.fitting.threads import most_threads
from nervkit.keywords import command_names, is_command

JobQueue = Iterator[tuple[SegmentJob, CheckpointOptions]]
FittedSegment = tuple[SegmentJob, bytes, SegmentReport]  # the bytes are those of a .nerv file
MAX_ATTEMPTS = 3  # for a segment whose worker was killed
POLL_SECONDS = 0.2  # between two polls of workers and of `stop`


@dataclass(frozen=True)
class ExecutorCallbacks:
    """Callbacks that an executor calls while it fits segments.

    Attributes:
        on_progress: called with a segment's index and the progress of its fit.
        on_note: called with each problem that a fit recovered from, and each retry.
        stop: polled several times a second. Once it returns True, all fits write their checkpoints
            and `run` raises Interrupted.
    """

    on_progress: Callable[[int, Progress], None] = lambda index, progress: None
    on_note: Callable[[str], None] = lambda note: None
    stop: Callable[[], bool] = lambda: False


class Executor(ABC):
    """Fits segments, one or several in parallel."""

    #: number of segments fitted in parallel
    slots: int
    #: whether other processes run the jobs: they read frames again instead of receiving them
    remote: bool

    @abstractmethod
    def run(self, queue: JobQueue, callbacks: ExecutorCallbacks) -> Iterator[FittedSegment]:
        """Fit all jobs of `queue` and yield segments in the order in which they finish. An idle
        worker takes the next job. If a fit raises, the other fits stop first."""


@dataclass(frozen=True)
class InProcess(Executor):
    """Fits one segment after another in this process."""

    slots: int = 1
    remote: bool = False

    def run(self, queue: JobQueue, callbacks: ExecutorCallbacks) -> Iterator[FittedSegment]:
        for job, keep in queue:
            yield job, *fit_segment(job, keep, _watch(job, callbacks))


def _watch(job: SegmentJob, callbacks: ExecutorCallbacks) -> FitCallbacks:
    def on_progress(progress: Progress) -> None:
        callbacks.on_progress(job.index, progress)

    return FitCallbacks(on_progress, callbacks.on_note, callbacks.stop)


@dataclass(frozen=True)
class _Task:
    """The `attempt`-th attempt to fit a segment, counted from 1."""

    job: SegmentJob
    keep: CheckpointOptions
    attempt: int = 1


@dataclass
class _Worker:
    """A process that fits one segment after another. `task` is the current one."""

    device: int
    process: BaseProcess
    pipe: Connection
    stopping: Event
    task: _Task | None = None

    def begin(self, task: _Task) -> None:
        self.task = task
        with suppress(BrokenPipeError, ConnectionError):  # the next poll finds a worker that ended
            self.pipe.send((task.job, task.keep))

    def finish(self) -> _Task:
        task, self.task = self.task, None
        assert task is not None
        return task


@dataclass
class Processes(Executor):
    """Fits several segments in parallel, each in a process with its share of the processors. If
    there are GPUs, worker i uses GPU i modulo their number."""

    slots: int
    remote: bool = True
    _workers: list[_Worker] = field(default_factory=list)

    def run(self, queue: JobQueue, callbacks: ExecutorCallbacks) -> Iterator[FittedSegment]:
        threads = max(1, most_threads() // self.slots)
        try:
            while True:
                while len(self._busy) < self.slots and (taken := next(queue, None)) is not None:
                    job, keep = taken
                    self._submit(_Task(replace(job, threads=job.threads or threads), keep))
                if not self._busy:
                    return
                if callbacks.stop():
                    raise Interrupted("stopped while segments were fitted", resumable=True)
                yield from self._poll(callbacks)
        finally:
            self._shut_down()

    @property
    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    def _submit(self, task: _Task) -> None:
        idle = next((worker for worker in self._workers if worker.task is None), None)
        (idle or self._start_worker()).begin(task)

    def _start_worker(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        parent_pipe, worker_pipe = context.Pipe()
        stopping = context.Event()
        device = min(set(range(self.slots)) - {worker.device for worker in self._workers})
        process = context.Process(
            target=_worker_main,
            args=(worker_pipe, stopping, device, is_command()),
            name=f"nervkit-worker-{device}",
        )
        process.start()
        worker_pipe.close()
        worker = _Worker(device, process, parent_pipe, stopping)
        self._workers.append(worker)
        return worker

    def _poll(self, callbacks: ExecutorCallbacks) -> Iterator[FittedSegment]:
        """Handle one message of each worker that has sent one."""
        pipes = {worker.pipe: worker for worker in self._busy}
        for pipe in wait(list(pipes), POLL_SECONDS):
            worker = pipes[pipe]  # type: ignore[index]
            try:
                kind, content = worker.pipe.recv()
            except (EOFError, ConnectionError):
                self._join(worker)
                self._retry(worker.finish(), _exit_reason(worker.process), callbacks)
                continue
            if kind == "progress":
                callbacks.on_progress(*content)
            elif kind == "note":
                callbacks.on_note(content)
            elif kind == "error":
                worker.finish()
                raise deserialize_error(*content)
            else:
                yield worker.finish().job, *content

    def _retry(self, task: _Task, reason: str, callbacks: ExecutorCallbacks) -> None:
        what = f"the worker of segment {task.job.index} ended ({reason})"
        if task.attempt == MAX_ATTEMPTS:
            raise NervError(
                f"{what} {MAX_ATTEMPTS} times; is there enough memory for {self.slots} workers? "
                "The same command resumes from the checkpoints"
            )
        callbacks.on_note(f"{what}; nervkit restarts it from its checkpoint")
        self._submit(replace(task, attempt=task.attempt + 1))

    def _join(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.join()
        worker.pipe.close()

    def _shut_down(self) -> None:
        """Ask all workers to write their checkpoints, and wait until they have ended."""
        for worker in self._workers:
            worker.stopping.set()
            with suppress(BrokenPipeError, ConnectionError):
                worker.pipe.send(None)
        for worker in list(self._workers):
            while worker.process.is_alive():
                if worker.pipe.poll(POLL_SECONDS):
                    try:
                        worker.pipe.recv()
                    except (EOFError, ConnectionError):
                        break
            self._join(worker)


def _exit_reason(process: BaseProcess) -> str:
    """Return the signal that ended the process, or its exit code."""
    code = process.exitcode
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _worker_main(pipe: Connection, stopping: Event, device: int, by_command: bool) -> None:
    """Fit the jobs that arrive by `pipe` until None arrives. The parent handles signals: a
    terminal sends Ctrl-C to workers as well."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()
    parent, polled = os.getppid(), time.monotonic()

    def stop() -> bool:
        nonlocal polled
        if time.monotonic() - polled < POLL_SECONDS:
            return False
        polled = time.monotonic()
        return stopping.is_set() or os.getppid() != parent  # a killed parent ends its workers

    def send(kind: str, content: Any) -> None:
        try:
            pipe.send((kind, content))
        except (BrokenPipeError, ConnectionError):
            stopping.set()

    def fit(job: SegmentJob, keep: CheckpointOptions) -> None:
        if torch.cuda.is_available() and job.options.device in ("auto", "cuda"):
            chosen = f"cuda:{device % torch.cuda.device_count()}"
            job = replace(job, options=replace(job.options, device=chosen))
        watch = FitCallbacks(
            on_progress=lambda progress: send("progress", (job.index, progress)),
            on_note=lambda note: send("note", note),
            stop=stop,
        )
        try:
            send("done", fit_segment(job, keep, watch))
        except NervError as error:
            send("error", serialize_error(error))
        except MemoryError:
            send("error", (ResourceError.__name__, f"segment {job.index}: memory ran out"))

    # These errors mean that the parent has ended.
    with command_names(by_command), suppress(EOFError, ConnectionError):
        while (task := pipe.recv()) is not None:
            fit(*task)


def serialize_error(error: NervError) -> tuple[str, str]:
    """Return the name of the error's nearest class in `nervkit.errors`, and its message."""
    known = (kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return next(known).__name__, str(error)


def deserialize_error(kind: str, message: str) -> NervError:
    """Return the error of a name and a message from `serialize_error`."""
    return getattr(errors, kind)(message)

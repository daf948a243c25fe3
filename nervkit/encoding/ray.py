"""Fit segments on a Ray cluster."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from nervkit.encoding.executors import (
    MAX_ATTEMPTS,
    POLL_SECONDS,
    Executor,
    ExecutorCallbacks,
    FittedSegment,
    JobQueue,
    deserialize_error,
    serialize_error,
)
from nervkit.encoding.segment import FrameRange, SegmentJob, fit_segment
from nervkit.errors import Interrupted, MissingDependencyError, NervError, ResourceError, UsageError
from nervkit.fitting.job import CheckpointOptions, FitCallbacks
from nervkit.fitting.progress import Progress
from nervkit.keywords import command_names, is_command, option

ANSWER_TIMEOUT = 30  # seconds for the cluster to answer
STOP_TIMEOUT = 60  # seconds for workers to write their checkpoints
CPUS = 2  # per segment on a cluster without GPUs


@dataclass
class RayCluster(Executor):
    """Fits one segment per `CPUS` processors or per GPU of a cluster. Ray restarts a segment if its
    worker or node is lost: from its checkpoint if all nodes share the output's folder."""

    slots: int
    gpus: bool
    remote: bool = True

    @classmethod
    def connected(cls, address: str, workers: int | str) -> RayCluster:
        """Connect to the cluster at an address. "auto" finds that of RAY_ADDRESS or of this
        machine, "local" starts one here.

        Raises MissingDependencyError if Ray is not installed, ResourceError if no cluster answers,
        UsageError for a bad number of workers.
        """
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "a Ray cluster needs the package ray: pip install 'nervkit[ray]'"
            ) from error
        if not ray.is_initialized():
            where = None if address == "local" else address
            _check_listening(address)
            try:
                ray.init(where, log_to_driver=False, logging_level="ERROR")
            except Exception as error:  # Ray raises its own, grpc's and the system's
                reason = " ".join(str(error).split())[:200]
                raise ResourceError(f"no Ray cluster answers at {address} ({reason})") from error
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        fits = gpus or max(1, int(resources.get("CPU", 1)) // CPUS)
        if workers in (1, "1", "auto"):
            return cls(fits, gpus > 0)
        if not str(workers).isdecimal() or int(workers) < 1:
            raise UsageError(
                f"{option('workers')} must be a number from 1, or auto, not {workers!r}"
            )
        return cls(int(workers), gpus > 0)

    def run(self, queue: JobQueue, callbacks: ExecutorCallbacks) -> Iterator[FittedSegment]:
        """See Executor.run."""
        import ray

        resources = {"num_gpus": 1} if self.gpus else {"num_cpus": CPUS}
        fit = ray.remote(max_retries=MAX_ATTEMPTS - 1, **resources)(_fit)
        board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board).remote()
        running: dict[Any, SegmentJob] = {}
        try:
            while True:
                while len(running) < self.slots and (taken := next(queue, None)) is not None:
                    job, keep = taken
                    sent = replace(job, threads=job.threads or (None if self.gpus else CPUS))
                    running[fit.remote(sent, keep, board, is_command())] = job
                if not running:
                    return
                if callbacks.stop():
                    raise Interrupted("stopped while segments were fitted", resumable=True)
                ready, _ = ray.wait(list(running), timeout=POLL_SECONDS)
                for index, progress, notes in _read(board):
                    for note in notes:
                        callbacks.on_note(note)
                    if progress is not None:
                        callbacks.on_progress(index, progress)
                for reference in ready:
                    yield running.pop(reference), *_result(reference)
        finally:
            if running:
                ray.get(board.stop.remote())
                ray.wait(list(running), num_returns=len(running), timeout=STOP_TIMEOUT)
            ray.kill(board)


def _check_listening(address: str) -> None:
    """Raise ResourceError if nothing listens at "host:port" or "ray://host:port": Ray itself
    retries for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise ResourceError(f"no Ray cluster answers at {address} ({error})") from error


def _result(reference: Any) -> Any:
    """Return what a finished task of `_fit` made. Raises its error."""
    import ray

    try:
        kind, content = ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:200]
        raise NervError(
            f"a segment's worker was lost {MAX_ATTEMPTS} times ({reason}); "
            "the same command resumes from the finished segments"
        ) from error
    if kind == "error":
        raise deserialize_error(*content)
    return content


def _read(board: Any) -> list[tuple[int, Progress | None, list[str]]]:
    """Return the new messages of a `_Board`: none while Ray restarts it on another node."""
    import ray

    with suppress(ray.exceptions.RayError):
        return ray.get(board.read.remote(), timeout=ANSWER_TIMEOUT)
    return []


class _Board:
    """A Ray actor that carries progress and notes from workers to the encode, and the request to
    stop back to them."""

    def __init__(self) -> None:
        self._progress: dict[int, Progress] = {}
        self._notes: list[tuple[int, str]] = []
        self._stopped = False

    def post(self, index: int, progress: Progress | None, note: str | None) -> bool:
        """Post a worker's messages. Return whether the worker must stop."""
        if progress is not None:
            self._progress[index] = progress
        if note is not None:
            self._notes.append((index, note))
        return self._stopped

    def read(self) -> list[tuple[int, Progress | None, list[str]]]:
        """Return and remove the messages: (segment index, progress, notes)."""
        progress, self._progress = self._progress, {}
        notes, self._notes = self._notes, []
        new: list[tuple[int, Progress | None, list[str]]] = [
            (i, p, []) for i, p in progress.items()
        ]
        return new + [(index, None, [note]) for index, note in notes]

    def stop(self) -> None:
        """Make all workers stop at their next message."""
        self._stopped = True


def _fit(
    job: SegmentJob, keep: CheckpointOptions, board: Any, by_command: bool = False
) -> tuple[str, Any]:
    """Fit one segment: the task of a worker. Return "done" and its file and report, or "error" and
    the serialized error."""
    import ray

    stopped, posted = False, time.monotonic()

    def post(progress: Progress | None = None, note: str | None = None) -> None:
        nonlocal stopped, posted
        posted = time.monotonic()
        with suppress(ray.exceptions.RayError):
            stopped = stopped or ray.get(board.post.remote(job.index, progress, note))

    def stop() -> bool:
        if time.monotonic() - posted > POLL_SECONDS:
            post()
        return stopped

    watch = FitCallbacks(post, lambda note: post(note=note), stop)
    shared = keep if keep.path.parent.is_dir() else None
    if shared is None and isinstance(job.frames, FrameRange):
        folder = keep.path.parent
        post(note=f"segment {job.index}: no checkpoint, because its worker cannot see {folder}")
    try:
        with command_names(by_command):
            return "done", fit_segment(job, shared, watch)
    except NervError as error:
        return "error", serialize_error(error)

"""Segments on a Ray cluster."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from nervkit.encoding.executors import (
    LOOK_SECONDS,
    MOST_ATTEMPTS,
    Executor,
    Fitted,
    Follower,
    Work,
    described,
    error_of,
)
from nervkit.encoding.segment import FrameRange, SegmentJob, fit_segment
from nervkit.errors import Interrupted, MissingDependencyError, NervError, ResourceError, UsageError
from nervkit.fitting.job import CheckpointOptions, Watch
from nervkit.fitting.progress import Progress

PORT_SECONDS = 30  # that a cluster has to answer in
END_SECONDS = 60  # that workers have to save their checkpoints in
CPUS = 2  # of a segment's fit, where it has no GPU


@dataclass
class RayCluster(Executor):
    """A segment for every `CPUS` processors or every GPU of a cluster. Ray starts a segment again
    whose worker or node is lost; where the folder of the output is on a file system that all nodes
    share, from its checkpoint."""

    slots: int
    gpus: bool
    remote: bool = True

    @classmethod
    def connected(cls, address: str, workers: int | str) -> RayCluster:
        """The cluster at an address; "auto": the one that RAY_ADDRESS or this machine has,
        "local": one that is started here.

        Raises MissingDependencyError where Ray is not installed, ResourceError where nobody
        answers, UsageError for a bad number of workers.
        """
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "a Ray cluster needs the package ray: pip install 'nervkit[ray]'"
            ) from error
        if not ray.is_initialized():
            where = None if address == "local" else address
            _check_answers(address)
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
            raise UsageError(f"workers must be a number, or auto, not {workers!r}")
        return cls(int(workers), gpus > 0)

    def run(self, work: Work, follower: Follower) -> Iterator[Fitted]:
        """See Executor.run."""
        import ray

        resources = {"num_gpus": 1} if self.gpus else {"num_cpus": CPUS}
        fit = ray.remote(max_retries=MOST_ATTEMPTS - 1, **resources)(_fit)
        board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board).remote()
        running: dict[Any, SegmentJob] = {}
        try:
            while True:
                while len(running) < self.slots and (taken := next(work, None)) is not None:
                    job, keep = taken
                    sent = replace(job, threads=job.threads or (None if self.gpus else CPUS))
                    running[fit.remote(sent, keep, board)] = job
                if not running:
                    return
                if follower.stop():
                    raise Interrupted("stopped while segments were fitted", resumable=True)
                ready, _ = ray.wait(list(running), timeout=LOOK_SECONDS)
                for index, progress, notes in _read(board):
                    for note in notes:
                        follower.on_note(note)
                    if progress is not None:
                        follower.on_progress(index, progress)
                for reference in ready:
                    yield running.pop(reference), *_result(reference)
        finally:
            if running:
                ray.get(board.stop.remote())
                ray.wait(list(running), num_returns=len(running), timeout=END_SECONDS)
            ray.kill(board)


def _check_answers(address: str) -> None:
    """Raise ResourceError where nobody listens at "host:port" or "ray://host:port": Ray itself asks
    for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PORT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ResourceError(f"no Ray cluster answers at {address} ({error})") from error


def _result(reference: Any) -> Any:
    import ray

    try:
        kind, content = ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:200]
        raise NervError(
            f"a segment was lost {MOST_ATTEMPTS} times with its worker ({reason}); "
            "the same command goes on with what is finished"
        ) from error
    if kind == "error":
        raise error_of(*content)
    return content


def _read(board: Any) -> list[tuple[int, Progress | None, list[str]]]:
    import ray

    with suppress(ray.exceptions.RayError):  # it is started again, on another node
        return ray.get(board.read.remote(), timeout=PORT_SECONDS)
    return []


class _Board:
    """What workers tell the encode, and the encode the workers. An actor of the cluster."""

    def __init__(self) -> None:
        self._progress: dict[int, Progress] = {}
        self._notes: list[tuple[int, str]] = []
        self._stopped = False

    def tell(self, index: int, progress: Progress | None, note: str | None) -> bool:
        """Whether the worker is to stop."""
        if progress is not None:
            self._progress[index] = progress
        if note is not None:
            self._notes.append((index, note))
        return self._stopped

    def read(self) -> list[tuple[int, Progress | None, list[str]]]:
        """What is new."""
        progress, self._progress = self._progress, {}
        notes, self._notes = self._notes, []
        new: list[tuple[int, Progress | None, list[str]]] = [
            (i, p, []) for i, p in progress.items()
        ]
        return new + [(index, None, [note]) for index, note in notes]

    def stop(self) -> None:
        self._stopped = True


def _fit(job: SegmentJob, keep: CheckpointOptions, board: Any) -> tuple[str, Any]:
    """What a worker does."""
    import ray

    stopped, asked = False, time.monotonic()

    def tell(progress: Progress | None = None, note: str | None = None) -> None:
        nonlocal stopped, asked
        asked = time.monotonic()
        with suppress(ray.exceptions.RayError):
            stopped = stopped or ray.get(board.tell.remote(job.index, progress, note))

    def stop() -> bool:
        if time.monotonic() - asked > LOOK_SECONDS:
            tell()
        return stopped

    watch = Watch(tell, lambda note: tell(note=note), stop)
    shared = keep if keep.path.parent.is_dir() else None
    if shared is None and isinstance(job.frames, FrameRange):
        tell(note=f"segment {job.index}: its worker does not see {keep.path.parent}: no checkpoint")
    try:
        return "done", fit_segment(job, shared, watch)
    except NervError as error:
        return "error", described(error)

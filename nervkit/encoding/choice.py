"""The executor that the options `workers` and `ray` select."""

from __future__ import annotations

import torch

from nervkit.encoding.executors import Executor, InProcess, Processes
from nervkit.errors import UsageError
from nervkit.fitting.threads import most_threads
from nervkit.keywords import option

MAX_WORKERS = 256


def choose_executor(workers: int | str, ray: str | None) -> Executor:
    """Return the executor for a number of workers or "auto", or for a Ray cluster. Raises
    UsageError, and MissingDependencyError if Ray is not installed."""
    if ray is not None:
        if not isinstance(ray, str):
            raise UsageError(f"{option('ray')} must be auto, local or an address, not {ray!r}")
        from nervkit.encoding.ray import RayCluster

        return RayCluster.connected(ray, workers)
    if workers == "auto":
        workers = torch.cuda.device_count() or max(1, most_threads() // 2)
    if not str(workers).isdecimal() or not 1 <= int(workers) <= MAX_WORKERS:
        raise UsageError(
            f"{option('workers')} must be a number from 1 to {MAX_WORKERS}, or auto, not "
            f"{workers!r}"
        )
    return InProcess() if int(workers) == 1 else Processes(int(workers))

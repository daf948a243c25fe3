"""Available memory, and byte counts for messages."""

from __future__ import annotations

from pathlib import Path

import psutil

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]

CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes that can still be allocated: the least of the system's free memory and what
    the limits of the cgroup and of the process leave."""
    free = psutil.virtual_memory().available
    if resource is not None:
        space, _ = resource.getrlimit(resource.RLIMIT_AS)
        if space != resource.RLIM_INFINITY:
            free = max(0, min(free, space - psutil.Process().memory_info().vms))
    try:
        limit = int((CGROUP / "memory.max").read_text())
        return min(free, limit - int((CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no cgroup, or one without a limit ("max")
        return free


def human_bytes(count: float) -> str:
    """Return a byte count such as "1.4 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError

"""What the command sets of its own process, before OpenMP and torch are loaded. Imports neither.

A program that imports nervkit keeps its environment, its allocator and its signals. Fits are faster
with what the command sets, and show the same: a program that wants it too starts with SETTINGS in
its environment, and calls `keep_freed_memory`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

SETTINGS = {
    # Threads that wait for others sleep. Spinning, two of them on a core and a half take twice as
    # long for a fit's step; asleep, they lose a few percent on an idle machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Large CPU tensors on huge pages: at 1280x640 a fit's step takes 0.6 of the time, as most of
    # it went into page faults. Linux only; elsewhere it is ignored.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def prepare() -> None:
    """In the command: set what the user has not set, keep freed memory, and let Ctrl-C end the
    process. In any other program, nothing."""
    if not _is_command():
        return
    # Modules load for some tenths of a second before the command handles signals itself: until
    # then Ctrl-C ends the process, without Python's traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next tensor, up to 1 GiB: else a step at 1280x640
    returns its large tensors to the system and spends a fifth of its time on getting them back.
    Other systems' allocators are left as they are."""
    import ctypes
    import platform

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter in (trim_threshold, mmap_threshold):
            libc.mallopt(parameter, 1 << 30)


def _is_command() -> bool:
    """Whether this process is the command `nervkit`, or `python -m nervkit`."""
    return Path(*sys.argv[:1]).stem == "nervkit" or sys.orig_argv[1:3] == ["-m", "nervkit"]

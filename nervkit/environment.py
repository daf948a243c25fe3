"""Process settings of the nervkit command. They must precede the import of OpenMP and torch.

`import nervkit` in any other program leaves its environment, allocator and signals alone. The
settings make fits faster and do not change their results. A program that wants them starts with
SETTINGS in its environment and calls `keep_freed_memory`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

SETTINGS = {
    # Waiting threads sleep. Two spinning threads on 1.5 free cores double the time of a step;
    # sleeping costs a few percent on an idle machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Large CPU tensors use huge pages, which saves page faults: at 1280x640 a step takes 0.6 of
    # the time. Only Linux reads this variable.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def prepare() -> None:
    """Set up the process if it is the nervkit command: set the variables that the user has not set,
    keep freed memory, and let Ctrl-C end the process. Do nothing in any other program."""
    if not _is_command():
        return
    # Imports take some tenths of a second before the command installs its own signal handlers.
    # Until then Ctrl-C ends the process without a Python traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Make glibc keep up to 1 GiB of freed memory for reuse. Otherwise a step at 1280x640 spends a
    fifth of its time on returning large tensors to the system and allocating them again. Other
    allocators are not changed."""
    import ctypes
    import platform

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter in (trim_threshold, mmap_threshold):
            libc.mallopt(parameter, 1 << 30)


def _is_command() -> bool:
    """Return whether this process runs `nervkit` or `python -m nervkit`."""
    return Path(*sys.argv[:1]).stem == "nervkit" or sys.orig_argv[1:3] == ["-m", "nervkit"]

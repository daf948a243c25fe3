"""What must be set before OpenMP and torch are loaded. Imports neither."""

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
    """Set what the user has not set, where torch is not loaded yet; and what Ctrl-C does."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if _is_command():
        # Modules load for some tenths of a second before the command handles signals itself: until
        # then Ctrl-C ends the process, without Python's traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _is_command() -> bool:
    """Whether this process is the command `nervkit`, or `python -m nervkit`."""
    return Path(*sys.argv[:1]).stem == "nervkit" or sys.orig_argv[1:3] == ["-m", "nervkit"]

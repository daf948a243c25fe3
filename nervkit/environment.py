"""What OpenMP and torch read from the environment when they are loaded. Imports neither."""

from __future__ import annotations

import os

SETTINGS = {
    # Threads that wait for others sleep. Spinning, two of them on a core and a half take twice as
    # long for a fit's step; asleep, they lose a few percent on an idle machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Large CPU tensors on huge pages: at 1280x640 a fit's step takes 0.6 of the time, as most of
    # it went into page faults. Linux only; elsewhere it is ignored.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def prepare() -> None:
    """Set what the user has not set. It takes effect where torch is not loaded yet."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)

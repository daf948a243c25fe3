"""What is open when a process forks: the child renews what it cannot share with its parent."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Something with locks, threads or an open file."""

    def after_fork(self) -> None:
        """In a child, before anything else happens there: locks may be held and work begun by
        threads that are only the parent's."""


_open: WeakSet[Renewable] = WeakSet()


def renewed_after_fork(opened: Renewable) -> None:
    """Have `opened.after_fork()` called in every child, for as long as it exists."""
    _open.add(opened)


def _renew_all() -> None:
    for opened in tuple(_open):
        opened.after_fork()


if hasattr(os, "register_at_fork"):  # Windows never forks
    os.register_at_fork(after_in_child=_renew_all)

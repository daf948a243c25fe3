"""Resources that a forked child must recreate because it cannot share them with its parent."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """An object that holds locks, threads or an open file."""

    def after_fork(self) -> None:
        """Recreate the resources in the child, before it does anything else: threads that exist
        only in the parent may hold locks or have begun work."""


_open: WeakSet[Renewable] = WeakSet()


def register_after_fork(opened: Renewable) -> None:
    """Call `opened.after_fork()` in every forked child while `opened` exists."""
    _open.add(opened)


def _renew_all() -> None:
    for opened in tuple(_open):
        opened.after_fork()


if hasattr(os, "register_at_fork"):  # Windows never forks
    os.register_at_fork(after_in_child=_renew_all)

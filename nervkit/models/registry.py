"""Which representations exist. Importing this imports no model and no torch.

A model of nervkit's own is one line in BUILT_IN. A third party registers one through the
entry point group "nervkit.models": name = "package.module:Class".
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from nervkit.errors import UsageError

if TYPE_CHECKING:
    from nervkit.models.base import Representation

BUILT_IN = {
    "gridnerv": "nervkit.models.gridnerv:GridNeRV",
    "hnerv": "nervkit.models.hnerv:HNeRV",
    "nerv": "nervkit.models.nerv:NeRV",
}
ENTRY_POINT_GROUP = "nervkit.models"


def _known() -> dict[str, str]:
    installed = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return installed | BUILT_IN


def model_names() -> list[str]:
    """Names that `load_model` accepts, built-in and installed ones."""
    return sorted(_known())


def load_model(name: str) -> type[Representation]:
    """The Representation class called `name`. Raises UsageError, listing the names."""
    known = _known()
    if name not in known:
        raise UsageError(f"unknown model {name!r}; choose from: {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    return getattr(import_module(module), attribute)

"""Models. The names that a model of one's own needs are imported from here, on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nervkit.models.base import Representation
    from nervkit.models.config import ModelConfig, VideoShape, bounded, chosen
    from nervkit.models.recipe import Recipe

_LAZY = {
    "ModelConfig": "config",
    "Recipe": "recipe",
    "Representation": "base",
    "VideoShape": "config",
    "bounded": "config",
    "chosen": "config",
}
__all__ = ["ModelConfig", "Recipe", "Representation", "VideoShape", "bounded", "chosen"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"nervkit.models.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

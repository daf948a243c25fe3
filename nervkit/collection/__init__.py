"""Collections: many videos in one growing network and one file (PFNR, arXiv 2306.11305).

    nervkit.collection.add("movies.nervc", "clip1.mp4")
    nervkit.collection.extract("movies.nervc", "clip1", "out.mp4")
    nervkit.Collection("movies.nervc")["clip1"][10:20]  # uint8 (10, H, W, 3)

docs/collection.md has the method and the format. Importing this module imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nervkit.collection.adding import AddReport, add
    from nervkit.collection.reading import (
        Collection,
        CollectionReport,
        CollectionVideo,
        extract,
        verify,
    )
    from nervkit.collection.summary import contents

_LAZY = {
    "AddReport": "adding",
    "Collection": "reading",
    "CollectionReport": "reading",
    "CollectionVideo": "reading",
    "add": "adding",
    "contents": "summary",
    "extract": "reading",
    "verify": "reading",
}
__all__ = [
    "AddReport",
    "Collection",
    "CollectionReport",
    "CollectionVideo",
    "add",
    "contents",
    "extract",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"nervkit.collection.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'nervkit.collection' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Published rate-distortion curves, to draw beside measured ones. published.json has the data."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def published_curves(dataset: str | None) -> list[dict[str, Any]]:
    """Return the published curves of a dataset and variant, such as "bunny@hnerv"; an unknown
    dataset has none.

    Each curve has `codec`, `source`, `x` (`bpp` or `parameters`), `metric`, `points` ([x, y] in
    order, means over the dataset), `note`, `datasets` (for which it is valid) and optionally
    `clips`: the points of single clips by name.
    """
    text = resources.files(__package__).joinpath("published.json").read_text(encoding="utf-8")
    return [curve for curve in json.loads(text) if dataset in curve["datasets"]]

"""What the papers report, to draw beside what is measured. The numbers are in published.json."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def published_curves(dataset: str | None) -> list[dict[str, Any]]:
    """The published curves of a dataset and variant, such as "bunny@hnerv"; none of an unknown one.

    Each has `codec`, `source`, `x` (`bpp` or `parameters`), `metric`, `points` ([x, y] in order,
    means over the dataset), `note`, `datasets` (what it holds for) and perhaps `clips`: the points
    of single clips by name.
    """
    text = resources.files(__package__).joinpath("published.json").read_text(encoding="utf-8")
    return [curve for curve in json.loads(text) if dataset in curve["datasets"]]

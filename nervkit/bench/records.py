"""Records of benchmarks: JSON files that appear whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nervkit.output import replacing


def write_record(path: Path, record: dict[str, Any]) -> None:
    """As JSON, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a file; None where there is none that is whole."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None

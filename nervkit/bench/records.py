"""Benchmark records: JSON files that appear complete or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from nervkit.errors import SourceError
from nervkit.output import replacing

Record: TypeAlias = dict[str, Any]
#: a type or types, as `isinstance` takes them
Kind: TypeAlias = type | tuple[type, ...]

FORMAT = 1  # of source and point records
SOURCE_NAME = "source.json"


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON. The file appears complete or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> Record | None:
    """Return the record in a file, or None if the file is missing or not a JSON object."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def load_record(path: Path, kinds: Mapping[str, Kind]) -> Record:
    """Return a record whose format, keys and value types were checked.

    Args:
        path: the JSON file.
        kinds: the type of each required key; numbers must be finite.

    Raises:
        SourceError: the file cannot be read, has another format, or lacks a key.
    """
    try:
        record = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"{path}: damaged record: {error}") from error
    if not isinstance(record, dict):
        raise SourceError(f"{path}: damaged record: not an object")
    if record.get("format") != FORMAT:
        raise SourceError(
            f"{path}: a record of format {record.get('format')}; nervkit reads format {FORMAT}"
        )
    for key, kind in kinds.items():
        if not has_kind(record.get(key), kind):
            raise SourceError(f"{path}: damaged record: {key} is missing or has the wrong type")
    return record


def point_paths(folder: Path) -> list[Path]:
    """Return the point records of a clip's folder, sorted by name."""
    paths = sorted(folder.glob("*.json"))
    return [p for p in paths if p.name != SOURCE_NAME and not p.name.startswith(".")]


def has_kind(value: object, kind: Kind) -> bool:
    """Whether a JSON value has the type `kind`. A bool is no number, and numbers are finite."""
    if isinstance(value, bool):
        return False
    return isinstance(value, kind) and not (isinstance(value, float) and not math.isfinite(value))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")

"""The encoder settings that a file stores as text: "name value, name value, ..."."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REQUANTIZED = "requantized"
#: settings that describe the tensors before requantization
OF_EARLIER_TENSORS = ("coded_bytes", "coded_psnr", "bits", "embedding_bits", REQUANTIZED)


def as_text(settings: Mapping[str, Any]) -> str:
    """Return settings as text."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def setting(settings: str, name: str) -> str | None:
    """Return the value of a setting as text, or None if it is absent."""
    for part in settings.split(", "):
        key, _, value = part.partition(" ")
        if key == name:
            return value
    return None


def is_requantized(settings: str) -> bool:
    """Whether the file was made by requantizing another .nerv file."""
    return setting(settings, REQUANTIZED) is not None


def requantized(settings: str, target: str) -> str:
    """Return the settings of a file requantized from one with `settings`: without the entries on
    the earlier tensors, and with the `target`, such as "to 60000 bytes"."""
    parts = [p for p in settings.split(", ") if p.partition(" ")[0] not in OF_EARLIER_TENSORS]
    return ", ".join([*filter(None, parts), f"{REQUANTIZED} {target}"])

"""The text by which a file says how it was made: "name value, name value, ..."."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REQUANTIZED = "requantized"
#: what no longer holds of tensors that were quantized anew
OF_EARLIER_TENSORS = ("coded_bytes", "coded_psnr", "bits", "embedding_bits", REQUANTIZED)


def as_text(settings: Mapping[str, Any]) -> str:
    """The text of settings."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def setting(settings: str, name: str) -> str | None:
    """The value of a setting, as text; None where the file does not say."""
    for part in settings.split(", "):
        key, _, value = part.partition(" ")
        if key == name:
            return value
    return None


def is_requantized(settings: str) -> bool:
    """Whether the file was made from another .nerv file, whose settings these were."""
    return setting(settings, REQUANTIZED) is not None


def requantized(settings: str, target: str) -> str:
    """The settings of a file that is made from one with `settings`: without what was said of the
    earlier tensors, and with the `target`, such as "to 60000 bytes"."""
    parts = [p for p in settings.split(", ") if p.partition(" ")[0] not in OF_EARLIER_TENSORS]
    return ", ".join([*filter(None, parts), f"{REQUANTIZED} {target}"])

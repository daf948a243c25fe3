"""Where something was measured: the machine and the versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nervkit.version import __version__


def machine(device: str) -> dict[str, Any]:
    """The processor, the cores that may be used, and the graphics processor where it is used."""
    gpu = None
    if device != "cpu":
        import torch

        gpu = torch.cuda.get_device_name(torch.device(device))
    return {"cpu": cpu_name(), "threads": cores(), "gpu": gpu}


def versions() -> dict[str, str]:
    """Of what determines a neural point."""
    return {
        "nervkit": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def commit() -> str | None:
    """Of the checkout that nervkit runs from, with "+" where it has changes; None elsewhere."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "nervkit")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name, with the extension that bfloat16 needs where it has that."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    extra = " with AVX512-BF16" if any("avx512_bf16" in line for line in lines) else ""
    return (name or platform.processor()) + extra

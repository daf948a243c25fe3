"""The machine and the software versions of a measurement."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nervkit.version import __version__


def machine(device: str) -> dict[str, Any]:
    """Return the CPU, the usable cores, and the GPU if `device` is one."""
    gpu = None
    if device != "cpu":
        import torch

        gpu = torch.cuda.get_device_name(torch.device(device))
    return {"cpu": cpu_name(), "threads": cores(), "gpu": gpu}


def versions() -> dict[str, str]:
    """Return the versions of the software that determines a neural point."""
    return {
        "nervkit": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def commit() -> str | None:
    """Return the commit of the checkout that nervkit runs from, with "+" if nervkit/ has changes;
    None if nervkit does not run from a checkout."""
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
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the CPU's name, and whether it has AVX512-BF16, which speeds up bfloat16."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    extra = " with AVX512-BF16" if any("avx512_bf16" in line for line in lines) else ""
    return (name or platform.processor()) + extra

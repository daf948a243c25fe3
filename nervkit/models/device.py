"""The device and the precision of computations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TypeAlias

import torch

from nervkit.errors import ResourceError, UsageError

Device: TypeAlias = str | torch.device


def choose_device(name: Device = "auto") -> torch.device:
    """Return the device called `name`; "auto" is CUDA if available, else the CPU. Raises UsageError
    for a device that is absent or that nervkit does not support."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            f"unknown device {name!r}; choose from: auto, cpu, cuda, cuda:N"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(
            f"nervkit does not support the device {device.type}; choose from: auto, cpu, cuda, "
            "cuda:N"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name} does not exist ({torch.cuda.device_count()} CUDA devices are available)"
        )
    return device


@cache
def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX). Emulation is
    slower than float32."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text() if info.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the autocast dtype for "auto", "bfloat16" or "float32" on `device`."""
    if name == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bfloat16()
        name = "bfloat16" if native else "float32"
    choices = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    if name not in choices:
        raise UsageError(f"unknown precision {name!r}; choose from: auto, {', '.join(choices)}")
    return choices[name]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return a context that autocasts to `dtype` on `device`; float32 means no autocast."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def reproducible(device: torch.device) -> AbstractContextManager[None]:
    """Return a context with deterministic convolutions, in full float32 if they are in float32.

    On CPUs they are so anyway; cuDNN is restricted to deterministic algorithms, without TF32.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


# The RuntimeErrors of torch's and oneDNN's allocators if memory runs out.
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "memory object")


@contextmanager
def memory_errors(subject: str) -> Iterator[None]:
    """Raise ResourceError, about `subject`, if memory runs out inside."""
    try:
        yield
    except ResourceError:
        raise
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(p in str(error).lower() for p in NO_MEMORY):
            raise
        message = f"{subject}: memory ran out; close other programs, or use a smaller video"
        raise ResourceError(message) from error

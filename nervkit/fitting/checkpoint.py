"""Checkpoints: a .npz of plain arrays plus JSON. Nothing is pickled."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nervkit.errors import OutputError, SourceError
from nervkit.output import LONGEST_NAME, check_helper, helper, temporary

META = "meta"


def checkpoint_path(output: Path) -> Path:
    """Where the checkpoint of a fit for `output` lies: beside it, in plain sight."""
    path = output.with_name(output.name + ".checkpoint")
    return path if len(os.fsencode(path.name)) <= LONGEST_NAME else helper(output, "checkpoint")


def kept_fit_path(output: Path) -> Path:
    """Where the fit of `output` is kept when it is finished (`encode(..., keep_fit=True)`)."""
    return output.with_name(output.name + ".fit")


@dataclass
class Checkpoint:
    """A checkpoint file of one fit. `identity` says what is fitted, to what, how and by which
    version of nervkit; a file of another identity is refused, never overwritten."""

    path: Path
    identity: dict[str, Any]
    interval: float = 60.0  # seconds between writes

    def save(self, progress: dict[str, Any], model: nn.Module, optimizers: list[Optimizer]) -> None:
        """Replace the file, atomically. `progress` is JSON: step, phase, seconds, ..."""
        arrays = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
        scalars: dict[str, Any] = {}
        for index, optimizer in enumerate(optimizers):
            for slot, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    name = f"optimizer/{index}/{slot}/{key}"
                    (arrays if isinstance(value, Tensor) else scalars)[name] = value
        arrays["random"] = torch.get_rng_state()
        meta = {
            "identity": self.identity,
            "progress": progress,
            "scalars": scalars,
            "arrays": sorted(arrays),
        }
        saved = {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()}
        saved[META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        partial = helper(self.path, "partial")
        self._check_places()
        try:
            with temporary(partial), partial.open("wb") as file:
                np.savez(file, **saved)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise OutputError(
                f"{self.path}: cannot write the checkpoint: {error.strerror}"
            ) from error

    def load(self) -> Saved | None:
        """What was saved, or None where there is no file. Raises SourceError on another fit's
        and on a damaged one, OutputError where something else stands in its place."""
        self._check_places()
        if not self.path.exists():
            return None
        saved, content = read_checkpoint(self.path, "delete it or use --restart")
        wanted = self.identity
        differing = sorted(k for k in saved | wanted if saved.get(k) != wanted.get(k))
        if "nervkit" in differing:
            writer = f"nervkit {saved['nervkit']}" if "nervkit" in saved else "an earlier nervkit"
            raise SourceError(
                f"{self.path}: a checkpoint of {writer}, this is {wanted['nervkit']}; "
                "go on with that version, or use --restart to discard it"
            )
        if differing:
            # A configuration follows from other settings.
            told = [key for key in differing if key != "config"] or differing
            changes = ", ".join(f"{k}: {saved.get(k)} -> {wanted.get(k)}" for k in told)
            raise SourceError(
                f"{self.path}: a checkpoint of another encode ({changes}); "
                "repeat that command to go on with it, or use --restart to discard it"
            )
        return content

    def delete(self) -> None:
        """Remove the file. Raises OutputError where something else stands in its place."""
        self._check_places()
        self.path.unlink(missing_ok=True)

    def _check_places(self) -> None:
        for path in (self.path, helper(self.path, "partial")):
            check_helper(path)


def read_checkpoint(path: Path, remedy: str) -> tuple[dict[str, Any], Saved]:
    """The identity of the fit in a checkpoint file, and its content. Raises SourceError, which ends
    with `remedy`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(arrays.pop(META).tobytes())
        if meta["arrays"] != sorted(arrays):
            raise ValueError("arrays are missing")
        return dict(meta["identity"]), Saved(meta["progress"], arrays, meta["scalars"])
    except Exception as error:  # damage makes zipfile, numpy and json raise nearly anything
        raise SourceError(f"{path}: not a readable checkpoint; {remedy}") from error


@dataclass
class Saved:
    """The content of a checkpoint file."""

    progress: dict[str, Any]
    arrays: dict[str, np.ndarray]
    scalars: dict[str, Any]

    def restore(self, model: nn.Module, optimizers: list[Optimizer]) -> None:
        """Put model, optimizers and torch's random state back as they were. Raises SourceError
        where the model has other tensors now."""
        values = {k: torch.from_numpy(v) for k, v in self.arrays.items()} | self.scalars
        try:
            model.load_state_dict(_below(values, "model"))
        except RuntimeError as error:
            raise SourceError(
                f"the checkpoint's tensors are not those of {type(model).__name__}, which has "
                "changed since it was written; use --restart to discard it"
            ) from error
        for index, optimizer in enumerate(optimizers):
            content = optimizer.state_dict()
            for name, value in _below(values, f"optimizer/{index}").items():
                slot, key = name.split("/")
                content["state"].setdefault(int(slot), {})[key] = value
            optimizer.load_state_dict(content)
            for parameter, state in optimizer.state.items():
                # A fused optimizer walks a parameter and its state as they lie in memory.
                for key, value in state.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        torch.set_rng_state(values["random"])


def _below(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    start = prefix + "/"
    return {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}

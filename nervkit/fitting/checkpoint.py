"""Checkpoints: a .npz file of plain arrays and JSON. Nothing is pickled."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nervkit.errors import OutputError, SourceError
from nervkit.fitting.budget import Length, Seconds, Steps
from nervkit.fitting.guard import GuardState
from nervkit.keywords import setting
from nervkit.output import LONGEST_NAME, check_helper, helper_path, temporary

META = "meta"


def checkpoint_path(output: Path) -> Path:
    """Return the path of the checkpoint of a fit for `output`: a visible file beside it."""
    path = output.with_name(output.name + ".checkpoint")
    return (
        path if len(os.fsencode(path.name)) <= LONGEST_NAME else helper_path(output, "checkpoint")
    )


def kept_fit_path(output: Path) -> Path:
    """Return the path of the finished fit of `output` (`encode(..., keep_fit=True)`)."""
    return output.with_name(output.name + ".fit")


@dataclass(frozen=True)
class FinishedPhases:
    """Totals of the phases that a fit has finished before the current one."""

    steps: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FitPosition:
    """Where a fit is: all that a checkpoint holds besides arrays.

    Attributes:
        phase: name of the current phase.
        length: of the current phase; None: the caller of `fit` keeps it.
        step: steps done in the current phase.
        seconds: spent in the current phase, in all sessions.
        guard: state of the current phase's Guard.
        finished: totals of the earlier phases.
    """

    phase: str = "fit"
    length: Length | None = None
    step: int = 0
    seconds: float = 0.0
    guard: GuardState = field(default_factory=GuardState)
    finished: FinishedPhases = field(default_factory=FinishedPhases)

    def to_dict(self) -> dict[str, Any]:
        """Return the position as JSON-ready values."""
        length: dict[str, float] = {}
        if self.length is not None:
            unit = "steps" if isinstance(self.length, Steps) else "seconds"
            length = {unit: self.length.count}
        return {
            "phase": self.phase,
            "length": length,
            "before": self.finished.seconds,
            "steps_before": self.finished.steps,
            "notes": self.finished.notes,
            "step": self.step,
            "seconds": self.seconds,
            "guard": self.guard.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the position that `to_dict` wrote. Raises KeyError or TypeError on others."""
        length: Length | None = None
        if "steps" in values["length"]:
            length = Steps(values["length"]["steps"])
        elif "seconds" in values["length"]:
            length = Seconds(values["length"]["seconds"])
        notes = tuple(values["notes"])
        return cls(
            phase=values["phase"],
            length=length,
            step=values["step"],
            seconds=values["seconds"],
            guard=GuardState.from_dict(values["guard"]),
            finished=FinishedPhases(values["steps_before"], values["before"], notes),
        )


@dataclass
class Checkpoint:
    """The checkpoint file of one fit. `identity` describes what is fitted, to which frames, with
    which options and by which version of nervkit. `load` refuses a file of another identity."""

    path: Path
    identity: dict[str, Any]
    interval: float = 60.0  # seconds between writes

    def save(self, position: FitPosition, model: nn.Module, optimizers: list[Optimizer]) -> None:
        """Replace the file atomically. Raises OutputError if it cannot be written."""
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
            "progress": position.to_dict(),
            "scalars": scalars,
            "arrays": sorted(arrays),
        }
        saved = {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()}
        saved[META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        partial = helper_path(self.path, "partial")
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
        """Return the file's content, or None if there is no file. Raises SourceError if the file is
        damaged or belongs to another fit, OutputError if its path is not a regular file."""
        self._check_places()
        if not self.path.exists():
            return None
        identity, content = read_checkpoint(
            self.path, f"delete it or set {setting('restart', True)}"
        )
        self._check_identity(identity)
        return content

    def delete(self) -> None:
        """Remove the file. Raises OutputError if its path is not a regular file."""
        self._check_places()
        self.path.unlink(missing_ok=True)

    def _check_identity(self, saved: dict[str, Any]) -> None:
        """Raise SourceError if a file's identity is not this fit's."""
        expected = self.identity
        differing = sorted(k for k in saved | expected if saved.get(k) != expected.get(k))
        if "nervkit" in differing:
            writer = f"nervkit {saved['nervkit']}" if "nervkit" in saved else "an earlier nervkit"
            raise SourceError(
                f"{self.path}: a checkpoint of {writer}, this is {expected['nervkit']}; "
                f"go on with that version, or set {setting('restart', True)} to discard it"
            )
        if differing:
            # A configuration follows from other settings.
            named = [key for key in differing if key != "config"] or differing
            changes = ", ".join(f"{k}: {saved.get(k)} -> {expected.get(k)}" for k in named)
            raise SourceError(
                f"{self.path}: a checkpoint of another encode ({changes}); "
                f"repeat that command to go on with it, or set {setting('restart', True)} to "
                "discard it"
            )

    def _check_places(self) -> None:
        for path in (self.path, helper_path(self.path, "partial")):
            check_helper(path)


def read_checkpoint(path: Path, remedy: str) -> tuple[dict[str, Any], Saved]:
    """Return the identity of the fit in a checkpoint file, and the file's content. Raises
    SourceError, whose message ends with `remedy`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(arrays.pop(META).tobytes())
        if meta["arrays"] != sorted(arrays):
            raise ValueError("arrays are missing")
        position = FitPosition.from_dict(meta["progress"])
        return dict(meta["identity"]), Saved(position, arrays, meta["scalars"])
    except Exception as error:  # damage makes zipfile, numpy and json raise nearly anything
        raise SourceError(f"{path}: not a readable checkpoint; {remedy}") from error


@dataclass
class Saved:
    """The content of a checkpoint file."""

    position: FitPosition
    arrays: dict[str, np.ndarray]
    scalars: dict[str, Any]

    def restore(self, model: nn.Module, optimizers: list[Optimizer]) -> None:
        """Restore a model, its optimizers and torch's random state. Raises SourceError if the
        model's tensors have other names or shapes."""
        values = {k: torch.from_numpy(v) for k, v in self.arrays.items()} | self.scalars
        try:
            model.load_state_dict(_below(values, "model"))
        except RuntimeError as error:
            raise SourceError(
                f"the checkpoint's tensors are not those of {type(model).__name__}, which has "
                f"changed since; set {setting('restart', True)} to discard the checkpoint"
            ) from error
        for index, optimizer in enumerate(optimizers):
            content = optimizer.state_dict()
            for name, value in _below(values, f"optimizer/{index}").items():
                slot, key = name.split("/")
                content["state"].setdefault(int(slot), {})[key] = value
            optimizer.load_state_dict(content)
            for parameter, state in optimizer.state.items():
                # A fused optimizer walks a parameter and its state in memory order.
                for key, value in state.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        torch.set_rng_state(values["random"])


def _below(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries whose names begin with `prefix` and a slash, without both."""
    start = prefix + "/"
    return {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}

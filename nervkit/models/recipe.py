"""Recipes: how a model is fitted, as data. Models declare the published one; fitting reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """One way to fit a representation. Rates follow lr * schedule(progress).

    The schedule rises linearly from `warmup_from` to 1 over the first `warmup` share of the
    steps, then falls to 0, along a cosine or a line.
    """

    loss: Literal["mse", "log_mse", "fusion6"]
    lr: float  # Adam's peak rate
    batch: int  # frames per step
    epochs: int  # as published, or nervkit's default where no preset is asked for
    betas: tuple[float, float] = (0.9, 0.999)
    matrix_lr: float | None = None  # peak rate for the model's matrices; None: Adam for all
    matrix_optimizer: Literal["muon", "soap"] = "muon"
    embedding_lr: float | None = None  # Adam's for fitted embeddings (grids); None: `lr`
    decay: Literal["cosine", "linear"] = "cosine"
    warmup: float = 0.1  # share of all steps
    warmup_from: float = 0.1  # share of the peak rate
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

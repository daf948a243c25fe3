"""Optimizers and the schedule that recipes name."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from nervkit.models.base import Representation
from nervkit.models.recipe import Recipe


def schedule(progress: float, recipe: Recipe) -> float:
    """Multiplier of the peak rate at `progress` in [0, 1): linear warm-up, then cosine to 0."""
    if progress < recipe.warmup:
        return recipe.warmup_from + (1 - recipe.warmup_from) * progress / recipe.warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))


def orthogonalize(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: five quintic Newton-Schulz iterations.

    Singular values end between about 0.7 and 1.2 (Jordan et al., "Muon", 2024). `matrix` is
    (rows, columns); so is the result, in `dtype`.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + torch.addmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.T if tall else x


class Muon(Optimizer):
    """Momentum orthogonalised by Newton-Schulz, for matrices (Jordan et al., "Muon", 2024).

    A convolution's (cout, cin, k, k) weight is the matrix (cout, cin * k * k). The update of a
    matrix has about unit singular values, times sqrt(max(1, rows / columns)), times `lr`.
    `torch.optim.Muon` does the same for 2-D parameters only.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update. Takes no closure."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                average = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                nesterov = torch.lerp(p.grad, average, group["momentum"]).flatten(1)
                dtype = torch.bfloat16 if p.is_cuda else torch.float32
                update = orthogonalize(nesterov, dtype)
                rate = group["lr"] * math.sqrt(max(1, update.shape[0] / update.shape[1]))
                p.add_(update.view_as(p), alpha=-rate)


def build_optimizers(model: Representation, recipe: Recipe) -> list[Optimizer]:
    """Muon for the model's matrices where the recipe gives it a rate, Adam for all the rest."""
    matrices = set(model.matrices()) if recipe.matrix_lr is not None else set()
    driven = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    rest = [p for name, p in driven if name not in matrices]
    fused = all(p.is_cuda for p in rest)
    optimizers: list[Optimizer] = [Adam(rest, lr=recipe.lr, betas=recipe.betas, fused=fused)]
    if recipe.matrix_lr is not None:
        optimizers.append(Muon([p for name, p in driven if name in matrices], recipe.matrix_lr))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: list[Optimizer], multiplier: float) -> None:
    """Set every group's rate to its peak times `multiplier`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * multiplier

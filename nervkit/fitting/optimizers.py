"""The optimizers that recipes name, and the learning rate schedule."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from nervkit.models.base import Representation
from nervkit.models.device import cpu_has_bfloat16
from nervkit.models.recipe import Recipe

CACHE_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
BFLOAT16_ROWS = 96  # from so many rows, matrices are faster in bfloat16 on a CPU that has it


def schedule(progress: float, recipe: Recipe) -> float:
    """Return the multiplier of the peak rate at `progress` in [0, 1): linear warm-up, then decay to
    0."""
    if progress < recipe.warmup:
        return recipe.warmup_from + (1 - recipe.warmup_from) * progress / recipe.warmup
    done = (progress - recipe.warmup) / (1 - recipe.warmup)
    return 1 - done if recipe.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return approximately the nearest semi-orthogonal matrices, by five quintic Newton-Schulz
    iterations.

    Singular values end between about 0.7 and 1.2 (Jordan et al., "Muon", 2024). `matrices` and the
    result are (count, rows, columns) with rows <= columns; the result is bfloat16 where that is
    faster.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    faster = matrices.is_cuda or (matrices.shape[1] >= BFLOAT16_ROWS and cpu_has_bfloat16())
    x = matrices.bfloat16() if faster else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(5):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class _GradientOptimizer(Optimizer):
    """An optimizer without closures: `step` applies the gradients."""

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Do one update. Raises ValueError for a closure."""
        if closure is not None:
            raise ValueError(f"{type(self).__name__} takes no closure")
        self._apply_gradients()
        return None

    @abstractmethod
    def _apply_gradients(self) -> None:
        """Update all parameters that have gradients."""


def _with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters of a group that have gradients, and these."""
    pairs = [(p, p.grad) for p in group["params"] if p.grad is not None]
    return [p for p, _ in pairs], [gradient for _, gradient in pairs]


class Muon(_GradientOptimizer):
    """Momentum orthogonalized by Newton-Schulz, for matrices (Jordan et al., "Muon", 2024), then
    normalized by row (Li et al., "NorMuon", 2510.05491, algorithm 1), unless `beta` is None.

    A convolution's (cout, cin, k, k) weight is the matrix (cout, cin * k * k). The update of a
    matrix has singular values of about 1, times sqrt(max(1, rows / columns)), times `lr`. Each of
    its rows is divided by the root of a running mean of its squares, and the matrix is scaled back
    to its norm. `torch.optim.Muon` orthogonalizes 2-D parameters only, and one at a time; here all
    matrices of a shape, transposed or not, form one batch.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.9, beta: float | None = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "beta": beta})

    @torch.no_grad()
    def _apply_gradients(self) -> None:
        for group in self.param_groups:
            driven, gradients = _with_gradients(group)
            if driven:
                self._update(driven, gradients, group["lr"], group["momentum"], group["beta"])

    def _update(
        self,
        driven: list[Tensor],
        gradients: list[Tensor],
        lr: float | Tensor,
        momentum: float,
        beta: float | None,
    ) -> None:
        for p in driven:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        averages = [self.state[p]["momentum"] for p in driven]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p, gradient, average in zip(driven, gradients, averages, strict=True):
            nesterov = torch.lerp(gradient, average, momentum).flatten(1)
            shapes[nesterov.shape[0], nesterov.shape[1]].append((p, nesterov))
        for (rows, columns), batch in shapes.items():
            parameters, matrices = zip(*batch, strict=True)
            stack = torch.stack(matrices)
            wide = stack if rows <= columns else stack.mT
            updates = orthogonalize(wide).to(stack.dtype)
            updates = updates if rows <= columns else updates.mT
            if beta is not None:
                updates = self._by_row(parameters, updates, beta)
            updates = updates * (lr * math.sqrt(max(1, rows / columns)))
            for p, update in zip(parameters, updates.unbind(), strict=True):
                p.sub_(update.reshape(p.shape))

    def _by_row(self, parameters: Sequence[Tensor], updates: Tensor, beta: float) -> Tensor:
        """Return the updates (N, rows, columns) of N parameters, with each row divided by its
        running root mean square. The norm of each update stays."""
        squares = updates.square().mean(dim=2)
        for p, start in zip(parameters, squares, strict=True):
            if "squares" not in self.state[p]:
                self.state[p]["squares"] = start.clone()
        kept = [self.state[p]["squares"] for p in parameters]
        average = torch.stack(kept).lerp_(squares, 1 - beta)
        torch._foreach_copy_(kept, list(average.unbind()))
        normalized = updates / average.sqrt().add(1e-8)[:, :, None]
        lengths = [x.flatten(1).norm(dim=1) for x in (updates, normalized)]
        return normalized * (lengths[0] / lengths[1].clamp(min=1e-7))[:, None, None]


class Soap(_GradientOptimizer):
    """Adam in the slowly rotating eigenbasis of Shampoo's preconditioner, for matrices (Vyas et
    al., "SOAP", 2409.11321, algorithm 3, with the QR step of algorithm 4 every `every` steps).

    A convolution's (cout, cin, k, k) weight is the matrix (cout, cin * k * k). `betas` belong to
    Adam's two averages, `beta` to the preconditioner.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        beta: float = 0.95,
        every: int = 10,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "beta": beta, "every": every})

    @torch.no_grad()
    def _apply_gradients(self) -> None:
        for group in self.param_groups:
            for p, gradient in zip(*_with_gradients(group), strict=True):
                self._update(p, gradient.flatten(1), group)

    def _update(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        left, right = gradient @ gradient.mT, gradient.mT @ gradient
        if not state:
            state["steps"] = 0
            state["mean"], state["squares"] = gradient.mul(0), gradient.mul(0)
            state["left"], state["right"] = left.clone(), right.clone()
            state["rows"], state["columns"] = (torch.linalg.eigh(x)[1] for x in (left, right))
        rows, columns = state["rows"], state["columns"]
        state["steps"] += 1
        state["mean"].lerp_(gradient, 1 - group["betas"][0])
        state["squares"].lerp_((rows.mT @ gradient @ columns).square(), 1 - group["betas"][1])
        grown = [1 - beta ** state["steps"] for beta in group["betas"]]
        deviation = (state["squares"] / grown[1]).sqrt().add(1e-8)
        update = rows @ (rows.mT @ state["mean"] @ columns / grown[0] / deviation) @ columns.mT
        p.sub_(update.reshape(p.shape) * group["lr"])
        state["left"].lerp_(left, 1 - group["beta"])
        state["right"].lerp_(right, 1 - group["beta"])
        if state["steps"] % group["every"] == 0:
            state["rows"] = torch.linalg.qr(state["left"] @ rows)[0]
            state["columns"] = torch.linalg.qr(state["right"] @ columns)[0]


class Adan(_GradientOptimizer):
    """Adam with Nesterov momentum from the change of the gradient (Xie et al., "Adan", 2208.06677,
    algorithm 1, without weight decay or restarts):

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) (g - g'),
        n <- b3 n + (1 - b3) (g + b2 (g - g'))^2,   p <- p - lr (m + b2 v) / (sqrt(n) + eps)

    where g' is the previous gradient, in the first step g itself. `betas` are b1, b2 and b3: 1
    minus the paper's. m, v and n start at 0 and are divided by 1 - b^k in step k, as in the
    authors' code.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def _apply_gradients(self) -> None:
        for group in self.param_groups:
            driven, gradients = _with_gradients(group)
            if driven:
                self._update(driven, gradients, group["lr"], group["betas"], group["eps"])

    def _update(
        self,
        driven: list[Tensor],
        gradients: list[Tensor],
        lr: float | Tensor,
        betas: tuple[float, ...],
        eps: float,
    ) -> None:
        for p, gradient in zip(driven, gradients, strict=True):
            if not self.state[p]:
                averages = {name: torch.zeros_like(p) for name in ("mean", "change", "squares")}
                count = torch.zeros((), device=p.device)
                self.state[p].update(averages, before=gradient.clone(), steps=count)
        means, changes, squares, before, steps = (
            [self.state[p][name] for p in driven]
            for name in ("mean", "change", "squares", "before", "steps")
        )
        torch._foreach_add_(steps, 1)
        difference = torch._foreach_sub(gradients, before)
        torch._foreach_copy_(before, gradients)
        ahead = torch._foreach_add(gradients, difference, alpha=betas[1])
        followed = (gradients, difference, torch._foreach_mul(ahead, ahead))
        corrected = []
        for kept, new, beta in zip((means, changes, squares), followed, betas, strict=True):
            torch._foreach_lerp_(kept, list(new), 1 - beta)
            # 1 - beta^k in tensors, so that a recorded step goes on counting
            grown = torch._foreach_sub(torch._foreach_pow(beta, steps), 1)
            corrected.append(torch._foreach_div(kept, torch._foreach_neg(grown)))
        mean, change, square = corrected
        update = torch._foreach_add(mean, change, alpha=betas[1])
        deviation = torch._foreach_add(torch._foreach_sqrt(square), eps)
        update = torch._foreach_mul(torch._foreach_div(update, deviation), lr)
        torch._foreach_sub_(driven, update)


MATRIX_OPTIMIZERS = {"muon": Muon, "soap": Soap}


@contextmanager
def _environment_unchanged() -> Iterator[None]:
    """Restore CACHE_FOLDER, which torch sets in the environment when its first optimizer imports
    torch._dynamo."""
    before = os.environ.get(CACHE_FOLDER)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(CACHE_FOLDER, None)


@_environment_unchanged()
def build_optimizers(model: Representation, recipe: Recipe) -> list[Optimizer]:
    """Return the optimizers of a recipe: Muon or SOAP for the model's matrices, if the recipe has a
    rate for these, and Adam or Adan for all other parameters."""
    matrices = set(model.matrices()) if recipe.matrix_lr is not None else set()
    driven = {name: p for name, p in model.named_parameters() if p.requires_grad}
    embeddings = {name for name in driven if name.partition(".")[0] in model.embedding_names}
    rest = [p for name, p in driven.items() if name not in matrices | embeddings]
    fitted = [p for name, p in driven.items() if name in embeddings]
    groups: list[dict[str, Any]] = [
        {"params": rest, "lr": recipe.lr},
        {"params": fitted, "lr": recipe.embedding_lr or recipe.lr},
    ]
    device = next(iter(driven.values())).device
    optimizers: list[Optimizer] = []
    if any(group["params"] for group in groups):
        filled = [group for group in groups if group["params"]]
        if recipe.optimizer == "adan":
            optimizers.append(Adan(filled, recipe.lr))
        else:
            capturable = device.type == "cuda"
            optimizers.append(Adam(filled, betas=recipe.betas, fused=True, capturable=capturable))
    if chosen := [p for name, p in driven.items() if name in matrices]:
        optimizers.append(MATRIX_OPTIMIZERS[recipe.matrix_optimizer](chosen, recipe.matrix_lr))
    return [_scheduled(optimizer, device) for optimizer in optimizers]


@_environment_unchanged()
def build_codec_optimizer(codec: nn.Module, recipe: Recipe) -> Optimizer:
    """Return Adam for a codec's step sizes, scales and contexts."""
    device = next(codec.parameters()).device
    options: dict[str, Any] = {"fused": True, "capturable": device.type == "cuda"}
    return _scheduled(Adam(codec.parameters(), recipe.codec_lr, recipe.betas, **options), device)


def _scheduled(optimizer: Optimizer, device: torch.device) -> Optimizer:
    """Store every group's peak rate, and put its rate in a tensor for `set_rates`."""
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
        group["lr"] = torch.tensor(group["lr"], device=device)
    return optimizer


def set_rates(optimizers: list[Optimizer], multiplier: float) -> None:
    """Set every group's rate to its peak times `multiplier`, in place."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"].fill_(group["peak_lr"] * multiplier)


def recordable(optimizer: Optimizer) -> bool:
    """Return whether a CUDA graph can record the optimizer's steps: not those of SOAP, which counts
    steps and decomposes matrices."""
    return not isinstance(optimizer, Soap)

"""Global magnitude pruning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nervkit.errors import UsageError
from nervkit.models.base import Representation


def prune(model: Representation, share: float) -> dict[str, Tensor]:
    """Set the smallest `share` of all weights to zero, in place (HNeRV, section 3.3).

    One threshold on |w| over all matrices and convolutions; biases, norms and embeddings stay.

    Returns:
        Masks by parameter name, 1 where a weight lives on, for fine-tuning.
    """
    if not 0 <= share < 1:
        raise UsageError(f"prune must lie in 0 to 1 (exclusive), not {share}")
    weights = _prunable(model)
    magnitudes = torch.cat([p.detach().abs().flatten() for p in weights.values()])
    count = int(share * len(magnitudes))
    threshold = magnitudes.kthvalue(count).values if count else -1.0
    keep = {name: (p.detach().abs() > threshold).to(p.dtype) for name, p in weights.items()}
    with torch.no_grad():
        for name, p in weights.items():
            p.mul_(keep[name])
    return keep


def alive(model: Representation) -> dict[str, Tensor]:
    """The masks that `prune` returned, read off the zeros of a pruned model."""
    return {name: (p.detach() != 0).to(p.dtype) for name, p in _prunable(model).items()}


def _prunable(model: Representation) -> dict[str, nn.Parameter]:
    stored = model.weights()
    return {n: p for n, p in model.named_parameters() if n in stored and p.ndim >= 2}

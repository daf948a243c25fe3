"""Global magnitude pruning."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nervkit.compression.published import Score
from nervkit.errors import UsageError
from nervkit.keywords import option
from nervkit.models.base import Representation


def prune(model: Representation, share: float, score: Score = "magnitude") -> dict[str, Tensor]:
    """Set the `share` of all weights with the lowest scores to zero, in place (HNeRV, section 3.3).

    One threshold applies to all matrices and convolutions; biases, norms and embeddings stay.

    Args:
        model: to prune.
        share: of the weights, in 0 to 1 (exclusive).
        score: "magnitude", |w|, or "normalized", |w| over the root of its tensor's count, which
            keeps more of small tensors (HiNeRV, 2306.09818).

    Returns:
        Masks by parameter name, 1 where a weight stays, for fine-tuning.
    """
    if not 0 <= share < 1:
        raise UsageError(f"{option('prune')} must lie in 0 to 1 (exclusive), not {share}")
    weights = _prunable(model)
    scores = {name: p.detach().abs() for name, p in weights.items()}
    if score == "normalized":
        scores = {name: values / math.sqrt(values.numel()) for name, values in scores.items()}
    joined = torch.cat([values.flatten() for values in scores.values()])
    count = int(share * len(joined))
    threshold = joined.kthvalue(count).values if count else -1.0
    keep = {name: (values > threshold).to(values.dtype) for name, values in scores.items()}
    with torch.no_grad():
        for name, p in weights.items():
            p.mul_(keep[name])
    return keep


def alive(model: Representation) -> dict[str, Tensor]:
    """Return the masks of a pruned model, from its zeros."""
    return {name: (p.detach() != 0).to(p.dtype) for name, p in _prunable(model).items()}


def _prunable(model: Representation) -> dict[str, nn.Parameter]:
    stored = model.weights()
    return {n: p for n, p in model.named_parameters() if n in stored and p.ndim >= 2}

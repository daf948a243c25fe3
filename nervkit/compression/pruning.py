"""Global pruning by magnitude."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nervkit.compression.published import Score
from nervkit.errors import UsageError
from nervkit.models.base import Representation


def prune(model: Representation, share: float, score: Score = "magnitude") -> dict[str, Tensor]:
    """Set the least `share` of all weights to zero, in place (HNeRV, section 3.3).

    One threshold over all matrices and convolutions; biases, norms and embeddings stay.

    Args:
        share: of the weights, in 0 to 1 (exclusive).
        score: what is least: "magnitude", |w|, or "normalized", |w| over the root of its tensor's
            count, so that small tensors keep more (HiNeRV, 2306.09818).

    Returns:
        Masks by parameter name, 1 where a weight lives on, for fine-tuning.
    """
    if not 0 <= share < 1:
        raise UsageError(f"prune must lie in 0 to 1 (exclusive), not {share}")
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
    """The masks that `prune` returned, read off the zeros of a pruned model."""
    return {name: (p.detach() != 0).to(p.dtype) for name, p in _prunable(model).items()}


def _prunable(model: Representation) -> dict[str, nn.Parameter]:
    stored = model.weights()
    return {n: p for n, p in model.named_parameters() if n in stored and p.ndim >= 2}

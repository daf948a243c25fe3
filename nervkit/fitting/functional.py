"""Calls of a model with other tensors than its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from nervkit.models.base import Representation


class FunctionalModel(nn.Module):
    """Calls methods of a model with some of its tensors replaced."""

    def __init__(self, model: Representation) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: str, *arguments: Any) -> Any:
        return getattr(self.model, method)(*arguments)

    def with_tensors(self, values: Mapping[str, Tensor], method: str, *arguments: Any) -> Any:
        """Return `model.method(*arguments)`, computed with the tensors `values`, by name."""
        if not values:
            return self(method, *arguments)
        replaced = {f"model.{name}": value for name, value in values.items()}
        return functional_call(self, replaced, (method, *arguments))


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers, by name."""
    return dict(model.named_buffers()) | dict(model.named_parameters())

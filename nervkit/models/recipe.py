"""Recipes: how to fit a model, as data. Models declare them; fitting reads them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args, get_origin, get_type_hints

from nervkit.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

NATIVE = "native"  # every model has this recipe; it is the default
PAPER = "paper"  # the published recipe; by default, a fit is as long as published


def _itself(loss: Tensor) -> Tensor:
    return loss


@dataclass(frozen=True)
class Loss:
    """The loss of a fit, such as your own: Recipe(loss=Loss("l1", torch.nn.functional.l1_loss)).

    Attributes:
        name: for messages.
        function: maps two float32 tensors with values in [0, 1], frames (B, 3, H, W) and their
            targets, to a differentiable scalar.
        by_value: whether it compares element-wise, so that the layout of the values, (B, ...), does
            not matter. Models may then return values in their cheapest layout, and a fit for a PSNR
            can aim by the loss.
        error: maps the loss to a positive error that falls towards 0. A mean squared error if
            `by_value`.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    by_value: bool = False
    error: Callable[[Tensor], Tensor] = _itself


#: nervkit's own losses, in fitting/losses.py
LossName = Literal["mse", "log_mse", "fusion6", "fusion10", "fusion10_5x5", "fusion10_freq"]


@dataclass(frozen=True)
class Recipe:
    """One way to fit a representation. Learning rates follow lr * schedule(progress).

    The schedule rises linearly from `warmup_from` to 1 over the first `warmup` share of the
    steps, then decays to 0, along a cosine or a line.
    """

    loss: LossName | Loss
    lr: float  # the optimizer's peak learning rate
    batch: int  # frames per step
    epochs: int  # as published: the default length of a fit
    optimizer: Literal["adam", "adan"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's
    matrix_lr: float | None = None  # peak rate for the model's matrices; None: `optimizer` for all
    matrix_optimizer: Literal["muon", "soap"] = "muon"
    embedding_lr: float | None = None  # `optimizer`'s for fitted embeddings (grids); None: `lr`
    decay: Literal["cosine", "linear"] = "cosine"
    warmup: float = 0.1  # share of all steps
    warmup_from: float = 0.1  # share of the peak rate
    most_norm: float | None = None  # clips the norm of all gradients together
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # A fit for rate and distortion: noise grows from `least_noise` quantization steps to one step
    # at the share `whole_noise_from` of the fit; from `rounding_from` on, values are rounded.
    codec_lr: float = 0.02  # Adam's peak rate for step sizes, scales and contexts
    least_noise: float = 0.1
    whole_noise_from: float = 0.7
    rounding_from: float = 0.85
    repeated: tuple[int, ...] = ()  # frames that an epoch draws once more; -1 is the last
    compression: str | None = None  # the name of the compression published with it

    def __post_init__(self) -> None:
        """Raise ModelError if a value is invalid."""
        if not isinstance(self.loss, Loss) and self.loss not in (names := get_args(LossName)):
            raise ModelError(f"a recipe's loss must be a Loss or one of {', '.join(names)}")
        for name, hint in get_type_hints(type(self)).items():
            known = get_args(hint) if get_origin(hint) is Literal else ()
            if known and getattr(self, name) not in known:
                raise ModelError(f"a recipe's {name} must be one of {', '.join(known)}")
        if not isinstance(self.compression, str | None):
            raise ModelError(f"a recipe's compression must be a name, not {self.compression!r}")
        for name in ("batch", "epochs"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ModelError(f"a recipe's {name} must be a whole number from 1, not {value!r}")
        for name in ("lr", "matrix_lr", "embedding_lr", "most_norm", "codec_lr"):
            value = getattr(self, name)
            if not (_positive(value) or (value is None and name not in ("lr", "codec_lr"))):
                raise ModelError(f"a recipe's {name} must be a positive number, not {value!r}")
        if not (0 <= self.warmup < 1 and 0 <= self.warmup_from <= 1):
            raise ModelError("a recipe's warmup must lie in 0 to 1 (exclusive), warmup_from to 1")
        shares = 0 < self.whole_noise_from <= self.rounding_from <= 1
        if not (0 <= self.least_noise <= 1 and shares):
            raise ModelError(
                "a recipe's least_noise must lie in 0 to 1, and whole_noise_from and rounding_from "
                "follow each other in 0 (exclusive) to 1"
            )
        if not all(type(frame) is int for frame in self.repeated):
            raise ModelError("a recipe's repeated frames must be whole numbers")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ModelError("a recipe's betas must be two numbers in 0 to 1 (exclusive)")

    def epoch(self, frames: int) -> list[int]:
        """Return the frames that an epoch of a clip of `frames` draws: every frame once, and the
        repeated ones unless they would be more than a fifth of all."""
        repeated = self.repeated if frames >= 4 * len(self.repeated) else ()
        return [*range(frames), *(frame % frames for frame in repeated)]

    def slower(self, rate: float) -> Self:
        """Return the recipe to continue a fit: `rate` times the learning rates, no warm-up."""
        return replace(
            self,
            lr=rate * self.lr,
            matrix_lr=self.matrix_lr and rate * self.matrix_lr,
            embedding_lr=self.embedding_lr and rate * self.embedding_lr,
            warmup=0.0,
        )


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0 and math.isfinite(value)

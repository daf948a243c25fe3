"""Recipes: how a model is fitted, as data. Models declare the published one; fitting reads it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args, get_origin, get_type_hints

from nervkit.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

NATIVE = "native"  # every model has a recipe of this name, which is taken unless another is asked
PAPER = "paper"  # the name of a recipe as published, which is fitted as long as published


def _itself(loss: Tensor) -> Tensor:
    return loss


@dataclass(frozen=True)
class Loss:
    """What a fit minimises, one's own too: Recipe(loss=Loss("l1", torch.nn.functional.l1_loss)).

    Attributes:
        name: for messages.
        function: of two float32 tensors with values in [0, 1], frames (B, 3, H, W) and their
            targets, gives a scalar that gradients pass through.
        by_value: whether it compares value by value, so that their arrangement, (B, ...), does not
            matter to it. Then models may give values as it suits them, which takes less time, and
            a fit for a PSNR can aim by it.
        error: of the loss, gives how far a fit is: positive, towards 0. A mean squared error where
            `by_value`.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    by_value: bool = False
    error: Callable[[Tensor], Tensor] = _itself


# of nervkit's own, in fitting/losses.py
LossName = Literal["mse", "log_mse", "fusion6", "fusion10", "fusion10_5x5", "fusion10_freq"]


@dataclass(frozen=True)
class Recipe:
    """One way to fit a representation. Rates follow lr * schedule(progress).

    The schedule rises linearly from `warmup_from` to 1 over the first `warmup` share of the
    steps, then falls to 0, along a cosine or a line.
    """

    loss: LossName | Loss
    lr: float  # the optimizer's peak rate
    batch: int  # frames per step
    epochs: int  # as published: how long a fit is where the user does not say
    optimizer: Literal["adam", "adan"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's
    matrix_lr: float | None = None  # peak rate for the model's matrices; None: `optimizer` for all
    matrix_optimizer: Literal["muon", "soap"] = "muon"
    embedding_lr: float | None = None  # `optimizer`'s for fitted embeddings (grids); None: `lr`
    decay: Literal["cosine", "linear"] = "cosine"
    warmup: float = 0.1  # share of all steps
    warmup_from: float = 0.1  # share of the peak rate
    most_norm: float | None = None  # of all gradients together: longer ones are shortened to it
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    codec_lr: float = 0.02  # Adam's peak rate for steps, scales and contexts
    least_noise: float = 0.1  # of a step, at the start of a fit for rate and distortion,
    whole_noise_from: float = 0.7  # and a whole step from this share of the fit on,
    rounding_from: float = 0.85  # until values are rounded
    repeated: tuple[int, ...] = ()  # frames that an epoch draws once more; -1 is the last
    compression: str | None = None  # by name, that was published with it

    def __post_init__(self) -> None:
        """Raises ModelError on values that no fit can have."""
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
        """What an epoch of a clip of `frames` draws, in any order: every frame once, and those that
        are repeated, unless they would be more than a fifth of all."""
        few = frames < 4 * len(self.repeated)
        again = () if few else self.repeated
        return [*range(frames), *(frame % frames for frame in again)]

    def slower(self, rate: float) -> Self:
        """For a fit that goes on: `rate` times these rates, without a warm-up."""
        return replace(
            self,
            lr=rate * self.lr,
            matrix_lr=self.matrix_lr and rate * self.matrix_lr,
            embedding_lr=self.embedding_lr and rate * self.embedding_lr,
            warmup=0.0,
        )


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0 and math.isfinite(value)

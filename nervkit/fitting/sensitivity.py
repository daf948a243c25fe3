"""Sensitivity: how much a representation's frames change with each stored value.

The mean squared derivative of the output y (M samples of a frame) by a value v is
E[(dy/dv)^2] = (1 / M) sum_m (dy_m / dv)^2, a diagonal element of J^T J / M. For independent random
signs e of +1 and -1, g = d(e . y) / dv has E[g^2] = sum_m (dy_m / dv)^2. So one backward pass gives
an unbiased estimate for every value at once (Hutchinson, 1990, for the trace; Bekas, Kokiopoulou
and Saad, 2007, for the diagonal; HAWQ-V2, 1911.03852, for the choice of bits).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nervkit.errors import ModelError
from nervkit.fitting.coders import GOLDEN
from nervkit.fitting.functional import FunctionalModel
from nervkit.models.base import Representation
from nervkit.models.device import reproducible

PROJECTIONS = 40  # forward and backward passes, of one frame each


def mean_squared_derivatives(
    model: Representation,
    projections: int = PROJECTIONS,
    *,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """Estimate E[(dy/dv)^2] for every stored value v, where y are unrounded frames in [0, 1]. The
    mean is over all samples of frames spread over the clip.

    Memory is that of one backward pass of one frame. If a tensor affects none of these frames, for
    example because it belongs to other frames, each of the other frames is projected once too.

    Args:
        model: in `eval` mode, on the device to compute on. It is not changed.
        projections: number of frames to project on random signs; short clips repeat frames.
        seed: of the signs.
        on_progress: called with (passes done, passes in total).

    Returns:
        For each tensor of `model.stored()`, float32 of its shape on the CPU, 0 or more. Integer
        tensors have no derivatives and are left out.

    Raises:
        ModelError: the output has no derivative by any stored value.
    """
    measure = _Measurement(model, torch.Generator().manual_seed(seed))
    frames = model.shape.frames
    positions = spread(frames, projections)
    rest = sorted(set(range(frames)) - set(positions))
    total = len(positions)
    for done, position in enumerate(positions, start=1):
        measure.add(position)
        if on_progress is not None:
            on_progress(done, total)
    found = {name: total_of / projections for name, total_of in measure.sums.items()}
    unseen = [name for name, values in found.items() if not values.any()]
    if unseen and rest:
        measure = _Measurement(model, measure.generator, unseen)
        for done, position in enumerate(rest, start=total + 1):
            measure.add(position)
            if on_progress is not None:
                on_progress(done, total + len(rest))
        found |= {name: total_of / frames for name, total_of in measure.sums.items()}
    if not any(values.any() for values in found.values()):
        raise ModelError(
            "the model's frames have no derivative by any value that it stores: "
            "nervkit cannot quantize it by sensitivity"
        )
    return {name: values.cpu() for name, values in found.items()}


def spread(frames: int, count: int) -> list[int]:
    """Return `count` of the positions 0 .. frames - 1, spread evenly but at irregular distances:
    the knots of grids are at regular ones."""
    return [int((k + 0.5) * GOLDEN % 1 * frames) for k in range(count)]


class _Measurement:
    """Sums over passes: squared derivatives of a random projection, divided by the sample count."""

    def __init__(
        self,
        model: Representation,
        generator: torch.Generator,
        names: Sequence[str] | None = None,
    ) -> None:
        """`names`: of the tensors to measure; None: all with derivatives."""
        self.generator = generator
        self._functional = FunctionalModel(model)
        self._values = {
            name: value.detach().clone().requires_grad_()
            for name, value in model.stored().items()
            if value.is_floating_point() and (names is None or name in names)
        }
        self.sums = {name: torch.zeros_like(value) for name, value in self._values.items()}

    def add(self, position: int) -> None:
        """Add a forward and a backward pass of the frame at `position`."""
        device = next(iter(self._values.values())).device
        t = torch.tensor([position], dtype=torch.float32, device=device)
        with torch.enable_grad(), reproducible(device):
            output = self._functional.with_tensors(self._values, "forward", t)
            if not output.requires_grad:
                return
            signs = torch.randint(0, 2, output.shape, generator=self.generator) * 2.0 - 1
            derivatives = torch.autograd.grad(
                output, list(self._values.values()), signs.to(output), allow_unused=True
            )
        for total, derivative in zip(self.sums.values(), derivatives, strict=True):
            if derivative is not None:
                total += derivative.float().square() / output.numel()

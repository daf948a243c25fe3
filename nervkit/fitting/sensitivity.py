"""How much a representation's frames change with each value that it stores.

The mean squared derivative of the output y (M samples of a frame) by a value v is
E[(dy/dv)^2] = (1 / M) sum_m (dy_m / dv)^2, which is a diagonal element of J^T J / M. For signs e of
+1 and -1, drawn independently, g = d(e . y) / dv has E[g^2] = sum_m (dy_m / dv)^2, so that one
backward pass gives an unbiased estimate for every value at once (Hutchinson, 1990, for the trace;
Bekas, Kokiopoulou and Saad, 2007, for the diagonal; HAWQ-V2, 1911.03852, to choose bits by it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nervkit.errors import ModelError
from nervkit.fitting.coders import GOLDEN
from nervkit.fitting.loop import Called
from nervkit.models.base import Representation
from nervkit.models.device import reproducible

PROJECTIONS = 40  # each is a forward and a backward pass of one frame


def mean_squared_derivatives(
    model: Representation,
    projections: int = PROJECTIONS,
    *,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """Estimate E[(dy/dv)^2] for every stored value v, with frames y in [0, 1] before they are
    rounded, and the mean over all samples of frames that are spread over the clip.

    One frame is computed at a time, so that memory is that of one backward pass. A tensor on which
    none of these frames depends may belong to others (content of single frames): only then, those
    that were left out are looked at too, once each.

    Args:
        model: as it decodes (`eval`), on the device to compute on. It is not changed.
        projections: how many frames are projected on random signs, with repetition where there are
            fewer.
        seed: of the signs.
        on_progress: called with (passes done, passes in all).

    Returns:
        For each tensor of `model.stored()`, float32 of its shape on the CPU, 0 or more. Tensors of
        whole numbers have no derivatives: they are left out.

    Raises:
        ModelError: the output depends on nothing that is stored, as far as derivatives tell.
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
            "it cannot be quantized by sensitivity"
        )
    return {name: values.cpu() for name, values in found.items()}


def spread(frames: int, count: int) -> list[int]:
    """`count` of the positions 0 .. frames - 1, spread evenly, but at no regular distance: grids
    have their knots at such."""
    return [int((k + 0.5) * GOLDEN % 1 * frames) for k in range(count)]


class _Measurement:
    """Sums over passes of squared derivatives of a random projection, divided by the samples."""

    def __init__(
        self,
        model: Representation,
        generator: torch.Generator,
        names: Sequence[str] | None = None,
    ) -> None:
        """`names`: of the tensors that are measured; all that have derivatives otherwise."""
        self.generator = generator
        self._called = Called(model)
        self._values = {
            name: value.detach().clone().requires_grad_()
            for name, value in model.stored().items()
            if value.is_floating_point() and (names is None or name in names)
        }
        self.sums = {name: torch.zeros_like(value) for name, value in self._values.items()}

    def add(self, position: int) -> None:
        """A forward and a backward pass of the frame at `position`."""
        device = next(iter(self._values.values())).device
        t = torch.tensor([position], dtype=torch.float32, device=device)
        with torch.enable_grad(), reproducible(device):
            output = self._called.with_tensors(self._values, "forward", t)
            if not output.requires_grad:
                return
            signs = torch.randint(0, 2, output.shape, generator=self.generator) * 2.0 - 1
            derivatives = torch.autograd.grad(
                output, list(self._values.values()), signs.to(output), allow_unused=True
            )
        for total, derivative in zip(self.sums.values(), derivatives, strict=True):
            if derivative is not None:
                total += derivative.float().square() / output.numel()

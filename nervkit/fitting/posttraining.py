"""Quantization after a fit: every step follows from how much the frames depend on its values.

Rounding to a step s has the mean squared error s^2 / 12, so that values v_i with steps s_i put
sum_i S_i s_i^2 / 12 into the mean squared error of the frames, S_i = E[(dy/dv_i)^2] being what
`sensitivity` measures. A value of many levels takes log2(1 / s_i) bits, but for a constant. So the
error is least for its bits where S_i s_i^2 = c^2 is the same for all values (reverse
water-filling: Cover and Thomas, Elements of Information Theory, section 10.3.3), and one number c
says how large the file is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from nervkit.compression.coded import Data, compress_coded
from nervkit.compression.quantization import LOWEST_EXPONENT
from nervkit.fitting.calibration import (
    NO_AXES,
    Axes,
    choose_scales,
    fit_contexts,
    fit_scales,
    place_steps,
    start_contexts,
)
from nervkit.fitting.coders import SIDE_BITS, GridCoder, MatrixCoder, TensorCoder, codings_of
from nervkit.fitting.loop import Called
from nervkit.fitting.sensitivity import spread
from nervkit.models.base import Representation
from nervkit.models.device import reproducible

STEP_OCTAVES = LOWEST_EXPONENT + 1.0, LOWEST_EXPONENT + 31.0  # what can be stored
TOLERANCE = 0.01  # of bytes or of an error that is aimed at
ROUNDS = 4  # of estimating bits and counting bytes,
MOST_COARSER = 2.0  # and quarters of an octave that are searched last
HALVINGS = 24
FRAMES = 8  # that an error is measured on
#: log2 of c: from what float32 tells apart to frames that show nothing
FINEST, COARSEST = -30.0, 6.0


class Quantizer:
    """The coders of a fitted model's tensors, with steps s = c / sqrt(S) of rows and columns, of
    channels and of vectors."""

    def __init__(
        self, model: Representation, derivatives: Mapping[str, Tensor], share: float = 1.0
    ) -> None:
        """
        Args:
            model: fitted, and as it decodes. Its tensors are not changed.
            derivatives: of `mean_squared_derivatives`.
            share: of all frames, that the model shows.
        """
        self.model, self.share = model, share
        self._values = {name: value.float().cpu() for name, value in model.stored().items()}
        codings, embeddings = codings_of(model), model.embeddings()
        self._coders: dict[str, TensorCoder] = {}
        self._first: dict[str, tuple[Tensor, float]] = {}  # log2 of a step, and what c adds to it
        for name, value in self._values.items():
            by_context = issubclass(codings[name].coder, GridCoder)
            coder = (GridCoder if by_context else MatrixCoder)([value], 1.0)
            found = derivatives.get(name)
            moving = found is not None and bool(found.any())
            if moving:
                # Few of the frames were looked at: content by time has one step for all times.
                found = found.mean(0, keepdim=True) if name in embeddings else found
                place_steps(coder, found * share)
            else:
                # Whole numbers stay; what shows nowhere keeps signs.
                coarse = 1.0 if found is None else max(float(value.abs().max()), 2.0**-10)
                coder.log_step.data.fill_(math.log2(coarse))
            self._coders[name] = coder
            self._first[name] = coder.log_step.detach().clone(), float(moving)
        self._axes: dict[str, Axes] = {}
        self._contexts_at: float | None = None

    @torch.no_grad()
    def set_error(self, log_c: float) -> None:
        """Set all steps for c = 2^log_c, and all scales for the integers that follow."""
        for name, coder in self._coders.items():
            first, moving = self._first[name]
            low, high = STEP_OCTAVES
            coder.log_step.copy_(first + moving * log_c)
            if isinstance(coder, MatrixCoder):
                low = low - float(coder.row_steps.min() + coder.column_steps.min())
                high = high - float(coder.row_steps.max() + coder.column_steps.max())
            coder.log_step.clamp_(low, high)
            if isinstance(coder, MatrixCoder):
                fit_scales(coder, self._integers(name), self._axes.get(name, NO_AXES))
            elif self._contexts_at is None:
                start_contexts(coder, self._integers(name))
            else:
                coder.log_floors += self._contexts_at - log_c  # which count in steps
        if self._contexts_at is not None:
            self._contexts_at = log_c

    def fit_contexts(self, log_c: float) -> None:
        """Set steps and scales as `set_error` does, and what is kept from then on to about the best
        for the integers that follow: the contexts of grids, and which rows and columns have scales
        of their own."""
        self.set_error(log_c)
        for name, coder in self._coders.items():
            if isinstance(coder, GridCoder):
                fit_contexts(coder, self._integers(name))
            else:
                self._axes[name] = choose_scales(coder, self._integers(name))
        self._contexts_at = log_c

    @torch.no_grad()
    def bits(self) -> float:
        """About what all tensors take."""
        bits = sum(float(coder.bits(self._integers(n))) for n, coder in self._coders.items())
        return bits + SIDE_BITS * sum(coder.side_values() for coder in self._coders.values())

    def data(self, coarser: float = 0.0) -> list[Data]:
        """What is stored of each tensor, in the order of the file; `coarser` as of TensorCoder."""
        coders = self._coders.items()
        return [coder.data([self._values[name]], coarser)[0] for name, coder in coders]

    @torch.no_grad()
    def squared_error(self) -> float:
        """What quantization puts into the mean squared error of frames in [0, 1], measured on a
        few frames spread over the clip, and weighted by the model's share."""
        own, called = self.model.stored(), Called(self.model)
        device = next(iter(own.values())).device
        changed = {
            name: (self._integers(name) * coder.step()).reshape(self._values[name].shape)
            for name, coder in self._coders.items()
        }
        changed = {name: value.to(own[name]) for name, value in changed.items()}
        errors = []
        with reproducible(device):
            for position in spread(self.model.shape.frames, FRAMES):
                t = torch.tensor([position], dtype=torch.float32, device=device)
                difference = called.with_tensors(changed, "forward", t) - self.model(t)
                errors.append(float(difference.float().square().mean()))
        return self.share * sum(errors) / len(errors)

    @torch.no_grad()
    def _integers(self, name: str) -> Tensor:
        coder = self._coders[name]
        return (coder.stacked([self._values[name]]) / coder.step()).round()


def compress_to_size(
    quantizers: Sequence[Quantizer],
    size: int,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[bytes]:
    """The coded tensors of each model, in about `size` bytes together: within TOLERANCE, or as
    near as they can be. One c applies to all models.

    `on_progress` is called with (searches done, searches in all).
    """

    def estimated(log_c: float) -> float:
        for quantizer in quantizers:
            quantizer.set_error(log_c)
        return sum(quantizer.bits() for quantizer in quantizers) / 8

    def counted(log_c: float, coarser: float = 0.0) -> int:
        nonlocal best
        payloads = _compressed(quantizers, log_c, coarser)
        found = sum(map(len, payloads))
        if best is None or abs(found - size) < abs(sum(map(len, best)) - size):
            best = payloads
        return found

    def tell(done: int) -> None:
        if on_progress is not None:
            on_progress(done, ROUNDS)

    best: list[bytes] | None = None
    aim = float(size)
    log_c = _solved(estimated, aim, FINEST, COARSEST)
    for done in range(1, ROUNDS):
        for quantizer in quantizers:
            quantizer.fit_contexts(log_c)
        log_c = _solved(estimated, aim, FINEST, COARSEST)
        found = counted(log_c)
        if abs(found - size) <= TOLERANCE * size:
            tell(ROUNDS)
            return best
        tell(done)
        aim *= size / found
    # A large tensor of one step jumps by quarters of an octave: its rows do so one by one.
    _solved(lambda coarser: counted(log_c, coarser), size, -MOST_COARSER, MOST_COARSER)
    tell(ROUNDS)
    return best


def compress_to_error(
    quantizers: Sequence[Quantizer],
    error: float,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[bytes]:
    """The coded tensors of each model, so coarse that they put about `error` into the mean squared
    error of all frames in [0, 1]. One c applies to all models.

    `on_progress` is called with (searches done, searches in all).
    """
    done = 0

    def precision(log_c: float) -> float:
        nonlocal done
        for quantizer in quantizers:
            quantizer.set_error(log_c)
        found = sum(quantizer.squared_error() for quantizer in quantizers)
        done += 1
        if on_progress is not None:
            on_progress(done, HALVINGS)
        return 1 / max(found, 1e-30)

    log_c = _solved(precision, 1 / error, FINEST, COARSEST)
    if on_progress is not None:
        on_progress(HALVINGS, HALVINGS)
    for quantizer in quantizers:
        quantizer.fit_contexts(log_c)
    return _compressed(quantizers, log_c)


def missed_size(found: int, size: int) -> list[str]:
    """A note where tensors take other bytes than they were to, by more than 2%."""
    if abs(found - size) <= 0.02 * size:
        return []
    return [f"the tensors take {found:,} bytes, and {size:,} were aimed at: use other --params"]


def _compressed(quantizers: Sequence[Quantizer], log_c: float, coarser: float = 0.0) -> list[bytes]:
    for quantizer in quantizers:
        quantizer.set_error(log_c)
    return [compress_coded(quantizer.data(coarser)) for quantizer in quantizers]


def _solved(falling: Callable[[float], float], aim: float, low: float, high: float) -> float:
    """The x in [low, high] where a function that falls is nearest to `aim`, as far as halving the
    interval tells, or within a part of TOLERANCE."""
    best, least = low, math.inf
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = falling(middle)
        if abs(found - aim) < least:
            best, least = middle, abs(found - aim)
        if least <= TOLERANCE * aim / 4 or high - low < 1e-3:
            break
        low, high = (middle, high) if found > aim else (low, middle)
    return best

"""Quantization after a fit: step sizes follow from the sensitivity of the frames to each value.

Rounding to a step size s has the mean squared error s^2 / 12. So values v_i with step sizes s_i add
sum_i S_i s_i^2 / 12 to the mean squared error of the frames, with the sensitivities
S_i = E[(dy/dv_i)^2] that `sensitivity` measures. A value of many levels takes log2(1 / s_i) bits,
plus a constant. So the error for a number of bits is least where S_i s_i^2 = c^2 is the same for
all values (reverse water-filling: Cover and Thomas, Elements of Information Theory, section
10.3.3), and the number c determines the size of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from nervkit.compression.coded import CodedTensor, compress_coded
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
from nervkit.fitting.coders import SIDE_BITS, GridCoder, MatrixCoder, codings_of
from nervkit.fitting.functional import FunctionalModel
from nervkit.fitting.sensitivity import spread
from nervkit.keywords import option
from nervkit.models.base import Representation
from nervkit.models.device import reproducible

STEP_OCTAVES = LOWEST_EXPONENT + 1.0, LOWEST_EXPONENT + 31.0  # range that can be stored
TOLERANCE = 0.01  # relative, of a target of bytes or error
ROUNDS = 4  # of estimating bits and counting bytes
MOST_COARSER = 2.0  # quarters of an octave; range of the final search
HALVINGS = 24
FRAMES = 8  # on which an error is measured
#: log2 of c: from the precision of float32 to a loss of all content
FINEST, COARSEST = -30.0, 6.0


class Quantizer:
    """The coders of a fitted model's tensors, with step sizes s = c / sqrt(S) of rows, columns,
    channels and vectors."""

    def __init__(
        self, model: Representation, derivatives: Mapping[str, Tensor], share: float = 1.0
    ) -> None:
        """
        Args:
            model: fitted, in `eval` mode. Its tensors are not changed.
            derivatives: from `mean_squared_derivatives`.
            share: of the video's frames that this model represents.
        """
        self.model, self.share = model, share
        self._values = {name: value.float().cpu() for name, value in model.stored().items()}
        codings, embeddings = codings_of(model), model.embeddings()
        self._coders: dict[str, MatrixCoder | GridCoder] = {}
        #: log2 of the step sizes for c = 1, and whether they follow c (1) or stay (0)
        self._first: dict[str, tuple[Tensor, float]] = {}
        for name, value in self._values.items():
            by_context = issubclass(codings[name].coder, GridCoder)
            coder = (GridCoder if by_context else MatrixCoder)([value], 1.0)
            found, follows_c = derivatives.get(name), 0.0
            if found is not None and bool(found.any()):
                # Few frames were measured: embeddings have one step size for all times.
                found = found.mean(0, keepdim=True) if name in embeddings else found
                place_steps(coder, found * share)
                follows_c = 1.0
            else:
                # Integers stay; values without effect on the frames keep their signs.
                coarse = 1.0 if found is None else max(float(value.abs().max()), 2.0**-10)
                coder.log_step.data.fill_(math.log2(coarse))
            self._coders[name] = coder
            self._first[name] = coder.log_step.detach().clone(), follows_c
        self._axes: dict[str, Axes] = {}
        self._contexts_at: float | None = None

    @torch.no_grad()
    def set_error(self, log_c: float) -> None:
        """Set all step sizes for c = 2^log_c, and all scales for the resulting integers."""
        for name, coder in self._coders.items():
            first, follows_c = self._first[name]
            low, high = STEP_OCTAVES
            coder.log_step.copy_(first + follows_c * log_c)
            if isinstance(coder, MatrixCoder):
                low = low - float(coder.row_steps.min() + coder.column_steps.min())
                high = high - float(coder.row_steps.max() + coder.column_steps.max())
            coder.log_step.clamp_(low, high)
            if isinstance(coder, MatrixCoder):
                fit_scales(coder, self._integers(name), self._axes.get(name, NO_AXES))
            elif self._contexts_at is None:
                start_contexts(coder, self._integers(name))
            else:
                coder.log_floors.add_(self._contexts_at - log_c)  # floors are in steps
        if self._contexts_at is not None:
            self._contexts_at = log_c

    def fit_contexts(self, log_c: float) -> None:
        """Set step sizes and scales as `set_error` does. Then fit to the resulting integers the
        contexts of grids, and choose which axes have scales of their own. Later calls of
        `set_error` keep both."""
        self.set_error(log_c)
        for name, coder in self._coders.items():
            if isinstance(coder, GridCoder):
                fit_contexts(coder, self._integers(name))
            else:
                self._axes[name] = choose_scales(coder, self._integers(name))
        self._contexts_at = log_c

    @torch.no_grad()
    def bits(self) -> float:
        """Estimate the bits of all tensors."""
        bits = sum(float(coder.bits(self._integers(n))) for n, coder in self._coders.items())
        return bits + SIDE_BITS * sum(coder.side_values() for coder in self._coders.values())

    def data(self, coarser: float = 0.0) -> list[CodedTensor]:
        """Return each tensor as it is stored, in the order of the file, with all step sizes
        `coarser` quarters of an octave larger."""
        coders = self._coders.items()
        return [coder.data([self._values[name]], coarser)[0] for name, coder in coders]

    @torch.no_grad()
    def squared_error(self) -> float:
        """Return the mean squared error that quantization adds to frames in [0, 1], measured on a
        few frames spread over the clip, and weighted by the model's share."""
        own, functional = self.model.stored(), FunctionalModel(self.model)
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
                difference = functional.with_tensors(changed, "forward", t) - self.model(t)
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
    """Return the coded tensors of each model, in about `size` bytes together: within TOLERANCE, or
    as near as possible. One c applies to all models.

    `on_progress` is called with (rounds done, rounds in total).
    """
    search = _SizeSearch(quantizers, size)

    def report(done: int) -> None:
        if on_progress is not None:
            on_progress(done, ROUNDS)

    aim = float(size)
    log_c = _solved(search.estimate, aim, FINEST, COARSEST)
    for done in range(1, ROUNDS):
        for quantizer in quantizers:
            quantizer.fit_contexts(log_c)
        log_c = _solved(search.estimate, aim, FINEST, COARSEST)
        found = search.count(log_c)
        if abs(found - size) <= TOLERANCE * size:
            report(ROUNDS)
            return search.best
        report(done)
        aim *= size / found
    # A large tensor of one step size jumps by quarters of an octave; here its rows jump one by one.
    _solved(lambda coarser: search.count(log_c, coarser), size, -MOST_COARSER, MOST_COARSER)
    report(ROUNDS)
    return search.best


class _SizeSearch:
    """Sizes of the coded tensors of several models, and the ones nearest to a target so far."""

    def __init__(self, quantizers: Sequence[Quantizer], size: int) -> None:
        self._quantizers, self._size = quantizers, size
        self.best: list[bytes] = []

    def estimate(self, log_c: float) -> float:
        """Estimate the bytes for c = 2^log_c."""
        for quantizer in self._quantizers:
            quantizer.set_error(log_c)
        return sum(quantizer.bits() for quantizer in self._quantizers) / 8

    def count(self, log_c: float, coarser: float = 0.0) -> int:
        """Code the tensors and return their bytes; `coarser` as of `Quantizer.data`."""
        payloads = _compressed(self._quantizers, log_c, coarser)
        found = sum(map(len, payloads))
        if not self.best or abs(found - self._size) < abs(sum(map(len, self.best)) - self._size):
            self.best = payloads
        return found


def compress_to_error(
    quantizers: Sequence[Quantizer],
    error: float,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[bytes]:
    """Return the coded tensors of each model, so coarse that quantization adds about `error` to the
    mean squared error of all frames in [0, 1]. One c applies to all models.

    `on_progress` is called with (halvings done, halvings in total).
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
    """Return a note if the tensors' bytes differ from their target by more than 2%."""
    if abs(found - size) <= 0.02 * size:
        return []
    return [
        f"the tensors take {found:,} bytes instead of the target {size:,}: set other "
        f"{option('params')}"
    ]


def _compressed(quantizers: Sequence[Quantizer], log_c: float, coarser: float = 0.0) -> list[bytes]:
    for quantizer in quantizers:
        quantizer.set_error(log_c)
    return [compress_coded(quantizer.data(coarser)) for quantizer in quantizers]


def _solved(falling: Callable[[float], float], aim: float, low: float, high: float) -> float:
    """Find by bisection the x in [low, high] where a falling function is nearest to `aim`; a
    quarter of TOLERANCE is near enough."""
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

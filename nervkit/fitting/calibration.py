"""Calibration of a coder without a fit of the model: step sizes from the sensitivity of the frames,
scales and contexts from given integers."""

from __future__ import annotations

import torch
from torch import Tensor

from nervkit.compression.coded import matrix_shape
from nervkit.fitting.coders import LEAST_SCALE, GridCoder, MatrixCoder

ITERATIONS = 20  # of the factors of rows and columns; a few suffice
MOST_OCTAVES = 4.0  # between a step size or scale of a row or column and their mean
FACTOR_BITS = 5.0  # typical cost of a factor of its own for a row or column
CONTEXT_STEPS, CONTEXT_RATE = 60, 0.1  # of Adam

Axes = tuple[bool, bool]  # whether rows, and columns, have factors of their own
NO_AXES: Axes = (False, False)
CHOICES: tuple[Axes, ...] = (NO_AXES, (True, False), (False, True), (True, True))


def factored(x: Tensor, axes: Axes) -> tuple[Tensor, Tensor]:
    """Return factors r (R, 1) and k (1, C) of a matrix x (R, C) such that x / (r k) has the mean 1
    in every row and column (Sinkhorn and Knopp, 1967). They are the maximum-likelihood scales of
    exponentially distributed values.

    Values of x are 0 or more. An axis without factors of its own has one, of shape (1, 1). Rows and
    columns of zeros count as mean ones.
    """
    x = x.double()
    x = torch.where((x > 0).any(1, keepdim=True), x, x.mean(0, keepdim=True))
    x = torch.where((x > 0).any(0, keepdim=True), x, x.mean(1, keepdim=True))
    row = column = x.new_ones(1, 1)
    for _ in range(ITERATIONS if all(axes) else 1):
        row = (x / column).mean(1 if axes[0] else (0, 1), keepdim=True)
        if axes[1]:
            column = (x / row).mean(0, keepdim=True)
    return row, column


@torch.no_grad()
def place_steps(coder: MatrixCoder | GridCoder, derivatives: Tensor) -> None:
    """Set a coder's step sizes to 1 / sqrt(S), with the mean squared derivatives S of its tensor.

    There is a step size for each channel of a grid and for each vector, and for rows and columns of
    a matrix if they save more bits than they cost. At equal error they save half the mean log2 of
    their squared step sizes for each value.

    Args:
        coder: of one tensor.
        derivatives: S, in a shape that broadcasts to the tensor's; not all 0.
    """
    if isinstance(coder, GridCoder):
        channels = derivatives.double().mean((0, 2, 3))
        channels = torch.where(channels > 0, channels, channels.mean())
        coder.log_step.copy_(-channels.log2().reshape_as(coder.log_step) / 2)
        return
    squares = derivatives.reshape(matrix_shape(derivatives.shape))
    rows, columns = coder.row_steps.numel(), coder.column_steps.numel()

    def bits(axes: Axes) -> float:
        row, column = factored(squares, axes)
        logs = float(row.log2().mean() + column.log2().mean())
        return logs * rows * columns / 2 + _factor_bits(coder, axes)

    row, column = factored(squares, min(_choices(coder), key=bits))
    log_step = _spread(-row.log2() / 2, -column.log2() / 2, coder.row_steps, coder.column_steps)
    coder.log_step.copy_(log_step)


def choose_scales(coder: MatrixCoder, q: Tensor) -> Axes:
    """Set a matrix's scales for its integers `q` (1, R, C), and return which axes have scales of
    their own."""

    def bits(axes: Axes) -> float:
        fit_scales(coder, q, axes)
        return float(coder.bits(q)) + _factor_bits(coder, axes)

    with torch.no_grad():
        best = min(_choices(coder), key=bits)
    fit_scales(coder, q, best)
    return best


@torch.no_grad()
def fit_scales(coder: MatrixCoder, q: Tensor, axes: Axes) -> None:
    """Set a matrix's scales to about the maximum likelihood for its integers `q` (1, R, C)."""
    row, column = factored(q[0].abs().double() + 0.5 / q.numel(), axes)
    log_scale = laplace_scale(row * column).log2()
    mean = log_scale.mean()
    row, column = log_scale.mean(1, keepdim=True) - mean, log_scale.mean(0, keepdim=True) - mean
    coder.log_scale.copy_(mean + _spread(row, column, coder.row_scales, coder.column_scales))


def laplace_scale(magnitude: Tensor) -> Tensor:
    """Return the scale b of the Laplace distribution whose values, rounded to integers, have the
    mean absolute value m = 1 / (2 sinh(1 / 2b))."""
    return (0.5 / torch.asinh(0.5 / magnitude)).clamp(min=LEAST_SCALE)


@torch.no_grad()
def start_contexts(coder: GridCoder, q: Tensor) -> None:
    """Initialize a grid's contexts for its integers `q` (knots, channels, rows, columns): floors
    from their magnitudes, small gains and no means."""
    coder.means.zero_()
    coder.gains.fill_(0.05)
    floors = laplace_scale(q.abs().mean((0, 2, 3)) + 0.5 / q[:, 0].numel()).log2()
    coder.log_floors.copy_(floors.expand_as(coder.log_floors))


def fit_contexts(coder: GridCoder, q: Tensor) -> None:
    """Fit a grid's means, gains and floors to about the maximum likelihood of its integers `q`."""
    optimizer = torch.optim.Adam([coder.means, coder.gains, coder.log_floors], CONTEXT_RATE)
    for step in range(CONTEXT_STEPS):
        optimizer.param_groups[0]["lr"] = CONTEXT_RATE * (1 - step / CONTEXT_STEPS)
        optimizer.zero_grad()
        with torch.enable_grad():
            torch.autograd.backward(coder.bits(q))
        optimizer.step()


def _choices(coder: MatrixCoder) -> tuple[Axes, ...]:
    """Return those of CHOICES that the coder has step sizes and scales for."""
    own = coder.row_steps.numel() > 1, coder.column_steps.numel() > 1
    return tuple(c for c in CHOICES if own[0] >= c[0] and own[1] >= c[1])


def _factor_bits(coder: MatrixCoder, axes: Axes) -> float:
    counts = coder.row_steps.numel(), coder.column_steps.numel()
    return FACTOR_BITS * sum(count for count, own in zip(counts, axes, strict=True) if own)


def _spread(row: Tensor, column: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Set `rows` and `columns` to the deviations of logarithms from their mean. Return the sum of
    the means."""
    for target, log in ((rows, row), (columns, column)):
        target.copy_((log - log.mean()).clamp(-MOST_OCTAVES, MOST_OCTAVES))
    return row.mean() + column.mean()

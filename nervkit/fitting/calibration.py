"""A coder's parameters without a fit of the model: its steps by the derivatives of the frames, its
scales and contexts by integers that are given."""

from __future__ import annotations

import torch
from torch import Tensor

from nervkit.compression.coded import matrix_shape
from nervkit.fitting.coders import LEAST_SCALE, GridCoder, MatrixCoder, TensorCoder

ITERATIONS = 20  # of factors of rows and columns, which converge in a few
MOST_OCTAVES = 4.0  # between a row's or a column's steps or scales and their mean
FACTOR_BITS = 5.0  # that a row or a column takes for a factor of its own, about
CONTEXT_STEPS, CONTEXT_RATE = 60, 0.1  # of Adam

Axes = tuple[bool, bool]  # whether each row, and each column, has a factor of its own
NO_AXES: Axes = (False, False)
CHOICES: tuple[Axes, ...] = (NO_AXES, (True, False), (False, True), (True, True))


def factored(x: Tensor, axes: Axes) -> tuple[Tensor, Tensor]:
    """Factors r (R, 1) and k (1, C) of a matrix x (R, C), 0 or more, such that x / (r k) has the
    mean 1 in every row and column (Sinkhorn and Knopp, 1967); for exponentially distributed values
    they are the likeliest. An axis without factors of its own has one, of shape (1, 1). Rows and
    columns of zeros are taken for mean ones."""
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
def place_steps(coder: TensorCoder, derivatives: Tensor) -> None:
    """Set a coder's steps to 1 / sqrt(S), S being the mean squared derivatives of its tensor (of
    the tensor's shape, or of one that broadcasts to it), not all 0: for each channel of a grid, for
    each vector, and for rows and columns of a matrix where they take more bits off its values than
    they cost. At equal error that is half the mean of log2 of what their squared steps gain."""
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
    """Which axes of a matrix are worth scales of their own, for its integers `q` (1, R, C). The
    coder's scales become those."""

    def bits(axes: Axes) -> float:
        fit_scales(coder, q, axes)
        return float(coder.bits(q)) + _factor_bits(coder, axes)

    with torch.no_grad():
        best = min(_choices(coder), key=bits)
    fit_scales(coder, q, best)
    return best


@torch.no_grad()
def fit_scales(coder: MatrixCoder, q: Tensor, axes: Axes) -> None:
    """Set a matrix's scales to about the likeliest for its integers `q` (1, R, C)."""
    row, column = factored(q[0].abs().double() + 0.5 / q.numel(), axes)
    log_scale = laplace_scale(row * column).log2()
    mean = log_scale.mean()
    row, column = log_scale.mean(1, keepdim=True) - mean, log_scale.mean(0, keepdim=True) - mean
    coder.log_scale.copy_(mean + _spread(row, column, coder.row_scales, coder.column_scales))


def laplace_scale(magnitude: Tensor) -> Tensor:
    """The scale b of the Laplace distribution whose values, rounded to integers, have the mean
    absolute value m = 1 / (2 sinh(1 / 2b))."""
    return (0.5 / torch.asinh(0.5 / magnitude)).clamp(min=LEAST_SCALE)


@torch.no_grad()
def start_contexts(coder: GridCoder, q: Tensor) -> None:
    """Set a grid's floors by its integers `q` (knots, channels, rows, columns), and a little by
    their neighbours."""
    coder.means.zero_()
    coder.gains.fill_(0.05)
    floors = laplace_scale(q.abs().mean((0, 2, 3)) + 0.5 / q[:, 0].numel()).log2()
    coder.log_floors.copy_(floors.expand_as(coder.log_floors))


def fit_contexts(coder: GridCoder, q: Tensor) -> None:
    """Bring a grid's means, gains and floors to about the likeliest for its integers `q`."""
    optimizer = torch.optim.Adam([coder.means, coder.gains, coder.log_floors], CONTEXT_RATE)
    for step in range(CONTEXT_STEPS):
        optimizer.param_groups[0]["lr"] = CONTEXT_RATE * (1 - step / CONTEXT_STEPS)
        optimizer.zero_grad()
        with torch.enable_grad():
            coder.bits(q).backward()
        optimizer.step()


def _choices(coder: MatrixCoder) -> tuple[Axes, ...]:
    """Those of CHOICES that the coder has steps and scales for."""
    own = coder.row_steps.numel() > 1, coder.column_steps.numel() > 1
    return tuple(c for c in CHOICES if own[0] >= c[0] and own[1] >= c[1])


def _factor_bits(coder: MatrixCoder, axes: Axes) -> float:
    counts = coder.row_steps.numel(), coder.column_steps.numel()
    return FACTOR_BITS * sum(count for count, own in zip(counts, axes, strict=True) if own)


def _spread(row: Tensor, column: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Set `rows` and `columns` to the deviations of logarithms from their mean, which is given."""
    for target, log in ((rows, row), (columns, column)):
        target.copy_((log - log.mean()).clamp(-MOST_OCTAVES, MOST_OCTAVES))
    return row.mean() + column.mean()

"""How many values a network gets, and its strides.

The user's number of parameters comes first; else the bytes of a target, at the bits that a value
takes; else `default_parameters` of the video. A model's `configure` turns the number into a
configuration, usually by `largest_within` or `scaled_within`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from nervkit.errors import UsageError
from nervkit.models.config import ModelConfig, VideoShape

Config = TypeVar("Config", bound=ModelConfig)

CODED_BITS = 2.2  # bits per value, about, after a fit through the quantizer
BITS_AFTER_FIT = 4.0  # bits per value if a network fitted in float is quantized to a target
MAX_CHANNELS = 1024  # of a network that is scaled to a size


class TooFewParametersError(UsageError):
    """A model cannot be as small as asked for; `least` is the smallest count that it can have."""

    def __init__(self, wanted: float, least: float) -> None:
        self.least = math.ceil(least)
        super().__init__(
            f"{int(wanted):,} parameters are too few: this model needs at least {self.least:,} "
            "for a clip of this size and length"
        )


def default_parameters(shape: VideoShape) -> int:
    """Return the number of values of a network if the user gives neither a number nor a target.

    That is 0.75M for 132 frames of 720p, as in the papers. A smaller video gets less, but not in
    proportion, since it needs more bits per pixel; never more than a quarter of its samples.
    """
    reference = 132 * 720 * 1280
    count = max(20_000, round(750_000 * (shape.pixels / reference) ** 0.6))
    return max(1, min(count, 3 * shape.pixels // 4))


def parameters_for_bytes(tensor_bytes: int, bits_per_value: float) -> int:
    """Return how many values fit into `tensor_bytes`."""
    return round(8 * tensor_bytes / bits_per_value)


def configure_or_smallest(
    configure: Callable[[int | None], Config], parameters: int | None
) -> Config:
    """Return `configure(parameters)`, or the model's smallest configuration if these are too
    few."""
    try:
        return configure(parameters)
    except TooFewParametersError as error:
        return configure(error.least)


def largest_within(count: Callable[[int], float], target: float, low: int, high: int) -> int:
    """Return the largest n in [low, high] with count(n) <= target, for a count that grows with n.

    Raises TooFewParametersError if there is none.
    """
    if count(low) > target:
        raise TooFewParametersError(target, count(low))
    while low < high:
        middle = (low + high + 1) // 2
        if count(middle) <= target:
            low = middle
        else:
            high = middle - 1
    return low


def scaled_within(
    count: Callable[[Config], int],
    base: Config,
    parameters: int,
    sizes: Mapping[str, int],
    *,
    remainder: str | None = None,
    fixed: Collection[str] = (),
) -> Config:
    """Scale `base` to the largest network of at most `parameters` values.

    Args:
        count: gives the number of stored values of a configuration.
        base: the configuration to scale.
        parameters: stored values, at most.
        sizes: fields of a published network. Smaller networks scale all of them alike, larger ones
            only the first.
        remainder: the field that then takes up the remaining values, up to twice its size.
        fixed: fields that keep their value. If the first of `sizes` is fixed, all are.

    Raises TooFewParametersError if even fields of 1 need more.
    """
    channels = next(iter(sizes))
    if channels in fixed:
        return base

    def scaled(eighths: int) -> Config:  # of a channel
        share = min(1.0, eighths / 8 / sizes[channels])
        fields = {name: share * size for name, size in sizes.items() if name not in fixed}
        fields[channels] = eighths / 8
        rounded: dict[str, Any] = {name: max(1, round(size)) for name, size in fields.items()}
        return replace(base, **rounded)

    def widened(size: int) -> Config:
        fields: dict[str, Any] = {} if remainder is None else {remainder: size}
        return replace(config, **fields)

    high = 8 * MAX_CHANNELS
    config = scaled(largest_within(lambda n: count(scaled(n)), parameters, low=1, high=high))
    if remainder is None or remainder in fixed:
        return config
    width = getattr(config, remainder)
    return widened(
        largest_within(lambda n: count(widened(n)), parameters, low=width, high=2 * width)
    )


def choose_strides(
    ladder: tuple[tuple[int, ...], ...], height: int, width: int, rows: float
) -> tuple[int, ...]:
    """Return the strides of `ladder` that suit a frame size best.

    Weighs the pixels computed in vain (padding up to whole grid cells) against how far the grid's
    shorter side is from `rows`, in octaves; one octave costs as much as 10% of padding.
    """

    def cost(strides: tuple[int, ...]) -> float:
        factor = math.prod(strides)
        rows_of_cells, columns = math.ceil(height / factor), math.ceil(width / factor)
        area = factor * rows_of_cells * factor * columns / (height * width)
        return area + 0.1 * abs(math.log2(min(rows_of_cells, columns) / rows))

    return min(ladder, key=cost)

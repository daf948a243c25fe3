"""GridNeRV's configuration and how it is chosen for a video: strides by the frame size, then a
layout of grids, then widths, channels and knots that fill a number of values. No torch: shapes and
counts are in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nervkit.errors import UsageError
from nervkit.models.config import ModelConfig, VideoShape, added, bounded
from nervkit.models.sizing import choose_strides, largest_within, parameters_for_bytes

# The last stride is the PixelShuffle's. It sets the cost: nothing but the frame itself is ever
# computed at a higher resolution than 1 / last stride.
STRIDES = (
    (1,),
    (2,),
    (4,),
    (2, 2),
    (2, 3),
    (2, 4),
    (2, 5),
    (3, 4),
    (2, 2, 4),
    (4, 5),
    (2, 3, 4),
    (2, 2, 8),
    (2, 3, 6),
    (2, 2, 10),
    (2, 3, 8),
    (2, 4, 8),
    (3, 3, 8),
    (2, 4, 12),
)
GRID_ROWS = 20  # of the stem, about
TRUNK_WIDTH = 24  # of the last stage, times sqrt(last stride): most of the work is there
KNOT_SPACINGS = tuple(2**i for i in range(8))  # factors of the frames per knot, for longer clips
MOTION_RATE = 4  # frames per knot of the velocities
CODED_BITS = 2.1  # bits per value, about, after a fit through the quantizer


@dataclass(frozen=True)
class Layout:
    """Grids to choose a configuration from; rates, scales and channels as in GridNeRVConfig.

    Attributes:
        width: trunk channels that go with these grid channels; both grow together.
        max_share: of all values, at most, that grids take; longer clips get fewer knots.
        moved_rate, motion_scale: of the configuration. With moved_rate 0, no grid is moved.
    """

    rates: tuple[int, ...]
    scales: tuple[int, ...]
    channels: tuple[int, ...]
    width: int
    max_share: float
    moved_rate: int = 0
    motion_scale: int = 2

    def fields(self, width: int, spacing: int, extra: int = 0) -> dict[str, Any]:
        """Return the configuration's grid fields for a trunk of `width` channels, with `spacing`
        times the frames per knot and `extra` more channels in the last grid."""
        channels = [max(1, round(n * width / self.width)) for n in self.channels]
        return {
            "grid_rates": tuple(rate * spacing for rate in self.rates),
            "grid_scales": self.scales,
            "grid_channels": (*channels[:-1], channels[-1] + extra),
            "moved_rate": self.moved_rate * spacing,
            "motion_rate": MOTION_RATE * spacing,
            "motion_scale": self.motion_scale,
        }


STATIC = Layout((2, 4, 12, 0), (4, 2, 1, 1), (2, 2, 4, 4), width=48, max_share=0.5)
#: for fits through the quantizer, where grid values take few bits: the first one that has room
MOTION_COMPENSATED = (
    Layout((2, 4, 24, 24, 0), (4, 2, 1, 0, 1), (2, 2, 4, 1, 4), 36, 0.75, moved_rate=24),
    Layout((2, 4, 24, 0), (4, 2, 1, 1), (2, 2, 4, 4), 36, 0.75, moved_rate=24),
    Layout((2, 4, 24, 0), (4, 2, 1, 1), (2, 2, 4, 4), 36, 0.75, moved_rate=24, motion_scale=4),
    STATIC,
)


@dataclass(frozen=True)
class GridNeRVConfig(ModelConfig):
    """GridNeRV's shape.

    Stage i has widths[i] channels and depths[i] blocks; an upsampling by strides[i] follows. Grid k
    has grid_channels[k] channels, one knot per grid_rates[k] frames (0: one for the clip) and one
    value per grid_scales[k] cells of the stem (0: one per cell of the last stage, a detail grid).
    Grids with a knot per moved_rate frames are moved (0: none), by velocities with a knot per
    motion_rate frames and a value per motion_scale cells of the stem.
    """

    strides: tuple[int, ...] = bounded(1, 16, (2, 4))
    widths: tuple[int, ...] = bounded(1, 2048, (48, 48))
    depths: tuple[int, ...] = bounded(0, 16, (2, 4))
    expansion: int = bounded(1, 8, 3)
    grid_rates: tuple[int, ...] = bounded(0, 1 << 20, STATIC.rates)
    grid_scales: tuple[int, ...] = bounded(0, 64, STATIC.scales)
    grid_channels: tuple[int, ...] = bounded(1, 1024, STATIC.channels)
    moved_rate: int = added(bounded(0, 1 << 20, 0))
    motion_rate: int = added(bounded(1, 1 << 20, MOTION_RATE))
    motion_scale: int = added(bounded(1, 64, 2))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._same_length("strides", "widths", "depths")
        self._same_length("grid_rates", "grid_scales", "grid_channels")
        if 0 in self.grid_scales and len(self.strides) == 1:
            raise UsageError("grid_scales of 0 need two stages or more")
        if not any(self.grid_scales):
            raise UsageError("grid_scales must not all be 0")

    def stem_size(self, shape: VideoShape) -> tuple[int, int]:
        """Return rows and columns of the stem."""
        cell = math.prod(self.strides)
        return math.ceil(shape.height / cell), math.ceil(shape.width / cell)

    def grid_size(self, scale: int, shape: VideoShape) -> tuple[int, int]:
        """Return rows and columns of a grid."""
        rows, columns = self.stem_size(shape)
        if scale == 0:
            zoom = math.prod(self.strides[:-1])
            return rows * zoom, columns * zoom
        return math.ceil(rows / scale), math.ceil(columns / scale)

    def grid_shapes(self, shape: VideoShape) -> list[tuple[int, int, int, int]]:
        """Return (knots, channels, rows, columns) of each grid."""
        grids = zip(self.grid_rates, self.grid_scales, self.grid_channels, strict=True)
        return [
            (knot_count(rate, shape), channels, *self.grid_size(scale, shape))
            for rate, scale, channels in grids
        ]

    def motion_shape(self, shape: VideoShape) -> tuple[int, int, int, int] | None:
        """Return (knots, channels, rows, columns) of the velocities; None without moved grids."""
        if not self.moved_rate:
            return None
        intervals = knot_count(self.moved_rate, shape) - 1
        per_interval = math.ceil(self.moved_rate / self.motion_rate)
        return intervals * per_interval + 1, 4, *self.grid_size(self.motion_scale, shape)

    def channels(self) -> tuple[int, int]:
        """Return the channels that the stem takes, and those of the detail grids."""
        grids = list(zip(self.grid_scales, self.grid_channels, strict=True))
        return sum(n for scale, n in grids if scale), sum(n for scale, n in grids if not scale)

    def grid_values(self, shape: VideoShape) -> int:
        """Return the number of values in grids and velocities."""
        motion = self.motion_shape(shape)
        return sum(map(math.prod, self.grid_shapes(shape))) + (math.prod(motion) if motion else 0)

    def values(self, shape: VideoShape) -> int:
        """Return the number of all stored values."""
        stem, detail = self.channels()
        total = self.grid_values(shape) + (9 * stem + 1) * self.widths[0]
        for width, depth in zip(self.widths, self.depths, strict=True):
            hidden = self.expansion * width
            total += depth * (9 * width + (width + 1) * hidden + (hidden + 1) * width)
        total += sum((a + 1) * b for a, b in zip(self.widths, self.widths[1:], strict=False))
        last = self.widths[-1]
        return total + detail * last + (9 * last + 1) * 3 * self.strides[-1] ** 2


def sized(
    config_type: type[GridNeRVConfig],
    shape: VideoShape,
    parameters: int | None,
    options: dict[str, Any],
) -> GridNeRVConfig:
    """Choose a configuration for a fit in float; see `Representation.configure`. The last stage has
    at most TRUNK_WIDTH sqrt(last stride) channels, which bounds the work per pixel; the other
    values go into the earlier stages and the grids' channels."""
    return _filled(config_type, shape, parameters, STATIC, options)


def sized_for_coding(
    config_type: type[GridNeRVConfig],
    shape: VideoShape,
    tensor_bytes: int,
    parameters: int | None,
    options: dict[str, Any],
) -> GridNeRVConfig:
    """Choose a configuration for a fit through the quantizer; see `Representation.configure_coded`.
    The first layout of MOTION_COMPENSATED whose grids have room puts more of the values in
    grids."""
    count = parameters or parameters_for_bytes(tensor_bytes, CODED_BITS)
    strides = options.get("strides") or _strides(shape)
    for layout in MOTION_COMPENSATED:
        if 0 in layout.scales and len(strides) == 1:
            continue
        sizes: dict[str, Any] = {"strides": strides} | _stages(strides, 1) | layout.fields(1, 1)
        least = config_type(**(sizes | options))
        if least.grid_values(shape) <= layout.max_share * count:
            break
    return _filled(config_type, shape, count, layout, options)


def _filled(
    config_type: type[GridNeRVConfig],
    shape: VideoShape,
    parameters: int | None,
    layout: Layout,
    options: dict[str, Any],
) -> GridNeRVConfig:
    """Return the configuration of a layout with about `parameters` values; None gives the trunk
    its full width everywhere."""
    strides = options.setdefault("strides", _strides(shape))

    def config_of(width: int, spacing: int, extra: int = 0) -> GridNeRVConfig:
        sizes = _stages(strides, width) | layout.fields(width, spacing, extra)
        return config_type(**(sizes | options))

    def count(width: int, spacing: int, extra: int = 0) -> int:
        return config_of(width, spacing, extra).values(shape)

    if parameters is None:
        return config_of(_trunk_width(strides), spacing=1)

    def widest(spacing: int) -> int:
        return largest_within(lambda n: count(n, spacing), parameters, low=1, high=1024)

    for spacing in KNOT_SPACINGS:
        if count(1, spacing) > parameters and spacing != KNOT_SPACINGS[-1]:
            continue
        width = widest(spacing)
        if config_of(width, spacing).grid_values(shape) <= layout.max_share * parameters:
            break
    # One channel more everywhere is a large step: the constant grid takes the remaining values.
    extra = largest_within(lambda n: count(width, spacing, n), parameters, low=0, high=256)
    return config_of(width, spacing, extra)


def knot_count(rate: int, shape: VideoShape) -> int:
    """Return the knots of a grid with one per `rate` frames; 0 means one for the clip."""
    last = shape.frames - 1
    return math.ceil(last / rate) + 1 if rate and last else 1


def _strides(shape: VideoShape) -> tuple[int, ...]:
    return choose_strides(STRIDES, shape.height, shape.width, rows=GRID_ROWS)


def _trunk_width(strides: tuple[int, ...]) -> int:
    return round(TRUNK_WIDTH * math.sqrt(strides[-1]))


def _stages(strides: tuple[int, ...], width: int) -> dict[str, Any]:
    """Return a configuration's fields of stages, with `width` channels before the last one."""
    earlier = len(strides) - 1
    widths = (*(width,) * earlier, min(width, _trunk_width(strides)))
    return {"widths": widths, "depths": (*(2,) * earlier, 4)}

"""How GridNeRV's configuration is chosen for a video: strides by the frame's size, then a layout of
grids, then widths, channels and knots that fill a number of values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nervkit.models.base import count_stored, largest_within
from nervkit.models.blocks import choose_strides
from nervkit.models.config import VideoShape

if TYPE_CHECKING:
    from nervkit.models.gridnerv import GridNeRV, GridNeRVConfig

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
TRUNK_WIDTH = 24  # of the last stage, times sqrt(last stride): there is most of the work
SLOWER = tuple(2**i for i in range(8))  # factors of the frames between knots, for longer clips
MOTION_RATE = 4  # frames between the knots of velocities
CODED_BITS = 2.1  # of a value, about, in a fit through a quantizer


@dataclass(frozen=True)
class Layout:
    """Grids to choose a configuration from; rates, scales and channels as in GridNeRVConfig.

    Attributes:
        width: of a trunk with so many channels in the grids; they grow with it.
        share: of all values that is in grids, at most; longer clips get fewer knots.
        moved_rate, motion_scale: of the configuration; 0: nothing is moved.
    """

    rates: tuple[int, ...]
    scales: tuple[int, ...]
    channels: tuple[int, ...]
    width: int
    share: float
    moved_rate: int = 0
    motion_scale: int = 2

    def fields(self, width: int, slower: int, more: int = 0) -> dict[str, Any]:
        """Those of a configuration with grids for a trunk of `width` channels, knots `slower` times
        as far apart, and `more` channels in the last grid."""
        channels = [max(1, round(n * width / self.width)) for n in self.channels]
        return {
            "grid_rates": tuple(rate * slower for rate in self.rates),
            "grid_scales": self.scales,
            "grid_channels": (*channels[:-1], channels[-1] + more),
            "moved_rate": self.moved_rate * slower,
            "motion_rate": MOTION_RATE * slower,
            "motion_scale": self.motion_scale,
        }


STILL = Layout((2, 4, 12, 0), (4, 2, 1, 1), (2, 2, 4, 4), width=48, share=0.5)
#: of fits through a quantizer, where grid values take few bits: the first whose grids have room
MOVED = (
    Layout((2, 4, 24, 24, 0), (4, 2, 1, 0, 1), (2, 2, 4, 1, 4), 36, 0.75, moved_rate=24),
    Layout((2, 4, 24, 0), (4, 2, 1, 1), (2, 2, 4, 4), 36, 0.75, moved_rate=24),
    Layout((2, 4, 24, 0), (4, 2, 1, 1), (2, 2, 4, 4), 36, 0.75, moved_rate=24, motion_scale=4),
    STILL,
)


def sized(
    model: type[GridNeRV], shape: VideoShape, parameters: int | None, options: dict[str, Any]
) -> GridNeRVConfig:
    """A configuration for a fit in float, as `Representation.configure` says. The last stage has
    TRUNK_WIDTH sqrt(last stride) channels at most, which bounds the work per pixel; what else there
    is goes into the earlier stages and the grids' channels."""
    return _filled(model, shape, parameters, STILL, options)


def sized_for_coding(
    model: type[GridNeRV],
    shape: VideoShape,
    tensor_bytes: int,
    parameters: int | None,
    options: dict[str, Any],
) -> GridNeRVConfig:
    """A configuration for a fit through a quantizer, as `Representation.configure_coded` says: with
    the first layout of MOVED whose grids have room, so that more of the values are in grids."""
    count = parameters or round(8 * tensor_bytes / CODED_BITS)
    strides = options.get("strides") or _strides(shape)
    for layout in MOVED:
        if 0 in layout.scales and len(strides) == 1:
            continue
        sizes = {"strides": strides} | _stages(strides, 1) | layout.fields(1, 1)
        least = model.config_type(**(sizes | options))
        if _grid_values(model, least, shape) <= layout.share * count:
            break
    return _filled(model, shape, count, layout, options)


def _filled(
    model: type[GridNeRV],
    shape: VideoShape,
    parameters: int | None,
    layout: Layout,
    options: dict[str, Any],
) -> GridNeRVConfig:
    """The configuration of a layout with about `parameters` values; None: with the trunk's full
    width everywhere."""
    strides = options.setdefault("strides", _strides(shape))

    def config_of(width: int, slower: int, more: int = 0) -> GridNeRVConfig:
        sizes = _stages(strides, width) | layout.fields(width, slower, more)
        return model.config_type(**(sizes | options))

    def count(width: int, slower: int, more: int = 0) -> int:
        return count_stored(model.skeleton(config_of(width, slower, more), shape))

    if parameters is None:
        return config_of(_trunk_width(strides), slower=1)
    for slower in SLOWER:
        if count(1, slower) > parameters and slower != SLOWER[-1]:
            continue
        width = largest_within(lambda n, s=slower: count(n, s), parameters, low=1, high=1024)
        config = config_of(width, slower)
        if _grid_values(model, config, shape) <= layout.share * parameters:
            break
    # One channel more everywhere is a large step: the constant grid takes up the rest.
    more = largest_within(lambda n: count(width, slower, n), parameters, low=0, high=256)
    return config_of(width, slower, more)


def _strides(shape: VideoShape) -> tuple[int, ...]:
    return choose_strides(STRIDES, shape.height, shape.width, rows=GRID_ROWS)


def _trunk_width(strides: tuple[int, ...]) -> int:
    return round(TRUNK_WIDTH * math.sqrt(strides[-1]))


def _stages(strides: tuple[int, ...], width: int) -> dict[str, tuple[int, ...]]:
    """Those fields of a configuration, where stages before the last have `width` channels."""
    earlier = len(strides) - 1
    widths = (*(width,) * earlier, min(width, _trunk_width(strides)))
    return {"widths": widths, "depths": (*(2,) * earlier, 4)}


def _grid_values(model: type[GridNeRV], config: GridNeRVConfig, shape: VideoShape) -> int:
    """How many values are in grids, of motion too."""
    return sum(grid.numel() for grid in model.skeleton(config, shape).embeddings().values())

"""PFNR: Progressive Fourier Neural Representation for Sequential Video Compilation (Kang et al.,
ICLR 2024, arXiv 2306.11305): the network that the videos of a collection share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nervkit.errors import UsageError
from nervkit.models.base import count_stored
from nervkit.models.blocks import PositionalEncoding, cropped, to_unit
from nervkit.models.config import VideoShape, bounded, chosen
from nervkit.models.nerv import STRIDES, NeRV, NeRVConfig
from nervkit.models.recipe import Recipe
from nervkit.models.sizing import choose_strides, largest_within

SUM, ALONE, NONE = "sum", "alone", "none"
PAPER = {"stem_width": 512, "grid_channels": 112, "min_width": 96}  # at 720p (section 4.1)
ROWS_OF_720P, MIN_ROWS = 9, 3  # of the grid; smaller frames have fewer in proportion
HEAD = "head."  # prefix of the tensors that each video has for itself; all others are shared


@dataclass(frozen=True)
class PFNRConfig(NeRVConfig):
    """A collection's network as one of its videos uses it: NeRV's shape, the index of the video
    among `videos`, and the Fourier subneural operator (section 3.2)."""

    video: int = bounded(0, 1 << 10, 0)  # counted from 0
    videos: int = bounded(1, 1 << 10, 16)  # planned number of videos; more may follow
    fourier: str = chosen(SUM, ALONE, NONE, default=SUM)  # beside or instead of the convolution
    fourier_stage: int = bounded(0, 7, 0)
    fourier_rows: int = bounded(1, 1 << 10, 4)  # modes at each end of the spectrum's rows
    fourier_columns: int = bounded(1, 1 << 10, 8)  # modes at the start of its columns


class FourierOperator(nn.Module):
    """Multiplies the low modes of the spectrum by complex weights and upsamples by `stride` (FSO,
    section 3.2, eq. 5-6): rfft2 -> channel matrix per mode -> zero padding -> irfft2.

    The low modes of the rows are at both ends of a spectrum; the weights hold the rows of the first
    end, then of the last. Products use real numbers; transforms are in float32.
    """

    def __init__(self, cin: int, cout: int, stride: int, rows: int, columns: int) -> None:
        super().__init__()
        self.stride, self.rows, self.columns = stride, rows, columns
        shape = cin, cout, 2 * rows, columns
        self.real = nn.Parameter(torch.empty(shape).uniform_(-1, 1) / cin)
        self.imaginary = nn.Parameter(torch.empty(shape).uniform_(-1, 1) / cin)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, cin, h, w) to (B, cout, h stride, w stride)."""
        height, width = x.shape[2] * self.stride, x.shape[3] * self.stride
        spectrum = torch.fft.rfft2(x.float(), norm="forward")
        low = spectrum[..., : self.columns]
        low = torch.cat((low[:, :, : self.rows], low[:, :, -self.rows :]), dim=2)
        real = mixed(low.real, self.real) - mixed(low.imag, self.imaginary)
        imaginary = mixed(low.real, self.imaginary) + mixed(low.imag, self.real)
        modes = torch.complex(real.float(), imaginary.float())
        modes = F.pad(modes, (0, width // 2 + 1 - self.columns))
        first, last = torch.split(modes, self.rows, dim=2)
        middle = modes.new_zeros(*modes.shape[:2], height - 2 * self.rows, modes.shape[3])
        modes = torch.cat((first, middle, last), dim=2)
        return torch.fft.irfft2(modes, s=(height, width), norm="forward")


def mixed(modes: Tensor, weight: Tensor) -> Tensor:
    """Multiply each mode of (B, I, m, n) by its matrix of `weight` (I, O, m, n): (B, O, m, n)."""
    return torch.einsum("bimn,iomn->bomn", modes, weight)


class Stage(nn.Module):
    """Conv -> PixelShuffle -> SiLU, as in NeRV; a Fourier operator is added before the
    activation."""

    def __init__(self, cin: int, cout: int, stride: int, fourier: FourierOperator | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout * stride**2, 3, padding=1)
        self.stride, self.fourier = stride, fourier

    def forward(self, x: Tensor) -> Tensor:
        y = F.pixel_shuffle(self.conv(x), self.stride)
        return F.silu(y if self.fourier is None else y + self.fourier(x))


class FourierStage(nn.Module):
    """A stage of the Fourier operator alone, as in the authors' runs."""

    def __init__(self, fourier: FourierOperator) -> None:
        super().__init__()
        self.fourier = fourier

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.fourier(x))


class PFNR(NeRV):
    """Frame and video index -> positional encodings -> MLP -> grid -> stages -> the video's head ->
    frame (section 3.1, figure 1)."""

    config_type = PFNRConfig
    recipes: ClassVar = {
        # Section 4.1: as NeRV, 150 epochs for each video.
        "paper": Recipe(
            loss="fusion6",
            lr=5e-4,
            batch=1,
            epochs=150,
            betas=(0.5, 0.999),
            warmup=0.2,
            precision="float32",
        ),
        "native": Recipe(loss="mse", lr=3e-3, batch=2, epochs=150, matrix_lr=0.03, warmup=0.05),
    }
    config: PFNRConfig

    def __init__(self, config: PFNRConfig, shape: VideoShape) -> None:
        super(NeRV, self).__init__(config, shape)
        factor = math.prod(config.strides)
        self.grid = math.ceil(shape.height / factor), math.ceil(shape.width / factor)
        width = config.grid_channels
        self.encoding = PositionalEncoding(config.pe_base, config.pe_levels)
        self.stem = nn.Sequential(
            nn.Linear(4 * config.pe_levels, config.stem_width),
            nn.ReLU(),
            nn.Linear(config.stem_width, math.prod(self.grid) * width),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential()
        for stage, stride in enumerate(config.strides):
            out = config.grid_channels if stage == 0 else max(width // 2, config.min_width)
            fourier = self._fourier(stage, width, out)
            if fourier is not None and config.fourier == ALONE:
                self.blocks.append(FourierStage(fourier))
            else:
                self.blocks.append(Stage(width, out, stride, fourier))
            width = out
        self.head = nn.Conv2d(width, 3, 1)

    def _fourier(self, stage: int, cin: int, cout: int) -> FourierOperator | None:
        """Return the operator of a stage, if it has one. Raises UsageError if the stage's spectrum
        has fewer modes than the operator."""
        config = self.config
        if config.fourier == NONE or stage != config.fourier_stage:
            return None
        scale = math.prod(config.strides[:stage])
        height, width = (scale * cells for cells in self.grid)
        rows, columns = config.fourier_rows, config.fourier_columns
        if 2 * rows > height or columns > width // 2 + 1:
            raise UsageError(
                f"a stage of {height}x{width} cells is too small for fourier_rows {rows} and "
                f"fourier_columns {columns}"
            )
        return FourierOperator(cin, cout, config.strides[stage], rows, columns)

    @classmethod
    def configure(
        cls, shape: VideoShape, parameters: int | None = None, **options: Any
    ) -> PFNRConfig:
        """See Representation.configure; one head counts. Other sizes keep the paper's ratio of
        widths, up to its stem and minimum width, and smaller frames get a grid of fewer rows. The
        Fourier operator has half of its stage's modes in each direction, as in the authors' runs; a
        stage of a single row has no operator."""
        rows = max(MIN_ROWS, ROWS_OF_720P * min(shape.height, shape.width) / 720)
        options.setdefault("strides", choose_strides(STRIDES, shape.height, shape.width, rows))
        factor = math.prod(options["strides"])
        scale = math.prod(options["strides"][: options.get("fourier_stage", 0)])
        height, width = (scale * math.ceil(side / factor) for side in (shape.height, shape.width))
        if height < 2:
            options.setdefault("fourier", NONE)
        options.setdefault("fourier_rows", max(1, height // 2))
        options.setdefault("fourier_columns", max(1, width // 2))

        def scaled(channels: int) -> PFNRConfig:
            share = min(1.0, channels / PAPER["grid_channels"])
            sizes = {name: max(1, round(share * size)) for name, size in PAPER.items()}
            return PFNRConfig(**(sizes | options | {"grid_channels": channels}))

        if parameters is None or "grid_channels" in options:
            return scaled(options.get("grid_channels", PAPER["grid_channels"]))

        def count(channels: int) -> int:
            return count_stored(cls.skeleton(scaled(channels), shape))

        return scaled(largest_within(count, parameters, low=1, high=1024))

    def forward(self, t: Tensor) -> Tensor:
        """See Representation.forward."""
        time = self.encoding(t / self.shape.frames)
        video = torch.full_like(t, (self.config.video + 1) / (self.config.videos + 1))
        x = self.stem(torch.cat((time, self.encoding(video)), dim=1))
        x = self.blocks(x.unflatten(1, (self.config.grid_channels, *self.grid)))
        return to_unit(cropped(self.head(x), self.shape.height, self.shape.width))

    def shared(self) -> list[str]:
        """Return the names of the tensors that all videos share, in the file's order."""
        return [name for name in self.weights() if not name.startswith(HEAD)]

"""The PSNR of a representation's reconstruction with other tensors than its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nervkit.errors import Interrupted
from nervkit.fitting.functional import FunctionalModel
from nervkit.fitting.metric import metric_of
from nervkit.models.base import Representation
from nervkit.models.blocks import to_float
from nervkit.video.colour import Colour

SAMPLED_FRAMES = 24  # measured in all calls but the first


class ReconstructionPSNR:
    """The PSNR in dB of a model with given tensors, by a metric, mean over a clip's frames.

    The first call measures all frames. Later calls measure a few frames spread over the clip, and
    assume that the difference between their mean and that of all frames stays the same.
    """

    def __init__(
        self,
        model: Representation,
        frames: np.ndarray,
        metric: str,
        colour: Colour,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            model: in `eval` mode, on the device to compute on.
            frames: (T, H, W, 3) uint8.
            metric: "rgb" or "yuv".
            colour: of the frames.
            stop: called before each frame; once it returns True, a call raises Interrupted.
        """
        self._functional, self._frames, self._stop = FunctionalModel(model), frames, stop
        self._device = next(iter(model.stored().values())).device
        self._metric = metric_of(metric, colour, model, self._device)
        count = min(SAMPLED_FRAMES, len(frames))
        self._sampled = np.linspace(0, len(frames) - 1, count).round().astype(int).tolist()
        self._difference: float | None = None

    def __call__(self, tensors: Mapping[str, Tensor]) -> float:
        """Return the PSNR with `tensors`: all stored ones, by name."""
        values = {name: tensor.to(self._device) for name, tensor in tensors.items()}
        sampled = self._mean(values, self._sampled)
        if self._difference is None:
            complete = len(self._sampled) == len(self._frames)
            mean = sampled if complete else self._mean(values, range(len(self._frames)))
            self._difference = mean - sampled
        return sampled + self._difference

    @torch.inference_mode()
    def _mean(self, values: dict[str, Tensor], positions: Sequence[int]) -> float:
        found = []
        for position in positions:
            if self._stop():
                raise Interrupted("stopped while the file was made", resumable=True)
            t = torch.tensor([position], dtype=torch.float32, device=self._device)
            output = self._functional.with_tensors(values, "forward", t).float()
            target = torch.from_numpy(self._frames[position]).permute(2, 0, 1)[None]
            output = output.mul(255).round().div(255)
            found.append(float(self._metric.psnr(output, to_float(target.to(self._device)))))
        return float(np.mean(found))

"""What a fitted representation shows with other tensors than its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nervkit.errors import Interrupted
from nervkit.fitting.loop import Called
from nervkit.fitting.metric import metric_of
from nervkit.models.base import Representation
from nervkit.models.blocks import to_float
from nervkit.video.colour import Colour

FEW = 24  # frames, that stand for all after the first time


class ShownQuality:
    """The PSNR in dB by a metric, mean over a clip's frames, of a model with given tensors. The
    first call looks at all frames. Later ones look at a few that are spread over the clip, and take
    the others to differ from these by as much as they did then."""

    def __init__(
        self,
        model: Representation,
        frames: np.ndarray,
        metric: str,
        colour: Colour,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """`model` as it decodes, on the device to compute on; `frames` (T, H, W, 3) uint8; `stop`
        is asked before each frame: once True, Interrupted is raised."""
        self._called, self._frames, self._stop = Called(model), frames, stop
        self._device = next(iter(model.stored().values())).device
        self._metric = metric_of(metric, colour, model, self._device)
        self._few = np.linspace(0, len(frames) - 1, min(FEW, len(frames))).round().astype(int)
        self._difference: float | None = None

    def __call__(self, tensors: Mapping[str, Tensor]) -> float:
        """`tensors`: all that are stored, by name."""
        values = {name: tensor.to(self._device) for name, tensor in tensors.items()}
        shown = self._mean(values, self._few.tolist())
        if self._difference is None:
            whole = len(self._few) == len(self._frames)
            everything = shown if whole else self._mean(values, range(len(self._frames)))
            self._difference = everything - shown
        return shown + self._difference

    @torch.inference_mode()
    def _mean(self, values: dict[str, Tensor], positions: Sequence[int]) -> float:
        found = []
        for position in positions:
            if self._stop():
                raise Interrupted("stopped while the file was made", resumable=True)
            t = torch.tensor([position], dtype=torch.float32, device=self._device)
            output = self._called.with_tensors(values, "forward", t).float()
            target = torch.from_numpy(self._frames[position]).permute(2, 0, 1)[None]
            output = output.mul(255).round().div(255)
            found.append(float(self._metric.psnr(output, to_float(target.to(self._device)))))
        return float(np.mean(found))

"""Whether a file shows what was fitted: a model that somebody brings may keep part of it elsewhere
than in the tensors that are stored."""

from __future__ import annotations

import numpy as np

from nervkit.decoder import NervVideo
from nervkit.errors import ModelError
from nervkit.fitting.loop import probed
from nervkit.metrics import psnr
from nervkit.models.base import Representation
from nervkit.networks import render

MOST_LOST = 3.0  # dB between a fit and the same network as a decoder would ask it
ENOUGH = 50.0  # dB; above, nothing that is lost can be seen
SAME = 45.0  # dB between two decodes of the same tensors: rounding makes less than one level
WORTH_A_NOTE = 1.0  # dB that quantization costs


class SelfCheck:
    """Checks of one fitted network, on the CPU, on a few frames spread over the clip."""

    def __init__(
        self, network: Representation, frames: np.ndarray, model: str, coarser: bool = False
    ) -> None:
        """`frames` are the clip's, (T, H, W, 3) uint8; `model` is the network's name; `coarser`
        says that the file is meant to show less than the fit."""
        self._network, self._frames, self._model = network, frames, model
        self._coarser = coarser
        self._positions = probed(len(frames)).tolist()
        self._psnr = self._quality([render(network, [t])[0] for t in self._positions])

    def fitted(self, fit_psnr: float) -> None:
        """Raise ModelError where `model(t)` is far below what the fit said, `fit_psnr` in dB."""
        if self._psnr < min(fit_psnr, ENOUGH) - MOST_LOST:
            raise ModelError(
                f"the model {self._model!r} shows {self._psnr:.2f} dB after the fit, which reached "
                f"{fit_psnr:.2f} dB: its forward must show what its fit_forward and finish_fit made"
            )

    def decoded(self, video: NervVideo) -> list[str]:
        """Notes on the file that was made. Raises ModelError where the network, given the file's
        tensors, shows other frames than a decoder. Changes the network."""
        shown = [video[t] for t in self._positions]
        self._network.load_stored(video.model.stored())
        pairs = zip(self._positions, shown, strict=True)
        alike = min(psnr(render(self._network, [t])[0], frame) for t, frame in pairs)
        decoded = self._quality(shown)
        if alike < SAME:
            raise ModelError(
                f"the model {self._model!r} decodes to {decoded:.2f} dB, and the fit had "
                f"{self._psnr:.2f} dB: it keeps something besides its parameters and persistent "
                "buffers, which a file does not hold"
            )
        lost = min(self._psnr, ENOUGH) - decoded
        if lost > WORTH_A_NOTE and not self._coarser:
            return [f"quantization costs {lost:.1f} dB; more bits cost less"]
        return []

    def _quality(self, shown: list[np.ndarray]) -> float:
        pairs = zip(self._positions, shown, strict=True)
        return float(np.mean([psnr(self._frames[t], frame) for t, frame in pairs]))

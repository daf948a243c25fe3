"""Check that a file decodes to what was fitted: a plugin's model may keep state outside the tensors
that are stored."""

from __future__ import annotations

import numpy as np

from nervkit.decoder import NervVideo
from nervkit.errors import ModelError
from nervkit.fitting.loop import probe_positions
from nervkit.keywords import option
from nervkit.metrics import psnr
from nervkit.models.base import Representation
from nervkit.networks import render

MAX_LOSS = 3.0  # dB between the fit's PSNR and that of `forward` after it
TRANSPARENT = 50.0  # dB; losses above are not visible
SAME = 45.0  # dB between two decodes of the same tensors: rounding errors are below one level
NOTED_LOSS = 1.0  # dB lost to quantization that are worth a note


class SelfCheck:
    """Check one fitted network, on the CPU, on a few frames spread over the clip."""

    def __init__(
        self, network: Representation, frames: np.ndarray, model: str, coarser: bool = False
    ) -> None:
        """`frames` are the clip's, (T, H, W, 3) uint8; `model` is the network's name; `coarser`
        means that the file is quantized to a target, so that a loss is expected."""
        self._network, self._frames, self._model = network, frames, model
        self._coarser = coarser
        self._positions = probe_positions(len(frames)).tolist()
        self._psnr = self._quality([render(network, [t])[0] for t in self._positions])

    def fitted(self, fit_psnr: float) -> None:
        """Raise ModelError if the PSNR of `model(t)` is far below the fit's, `fit_psnr` in dB."""
        if self._psnr < min(fit_psnr, TRANSPARENT) - MAX_LOSS:
            raise ModelError(
                f"the model {self._model!r} has {self._psnr:.2f} dB after the fit, which reached "
                f"{fit_psnr:.2f} dB: its forward must return what its fit_forward and finish_fit "
                "made"
            )

    def decoded(self, video: NervVideo[np.ndarray]) -> list[str]:
        """Return notes on the file. Raises ModelError if the network with the file's tensors shows
        other frames than a decoder. Loads these tensors into the network."""
        shown = [video[t] for t in self._positions]
        self._network.load_stored(video.model.stored())
        pairs = zip(self._positions, shown, strict=True)
        alike = min(psnr(render(self._network, [t])[0], frame) for t, frame in pairs)
        decoded = self._quality(shown)
        if alike < SAME:
            raise ModelError(
                f"the model {self._model!r} decodes to {decoded:.2f} dB, and the fit had "
                f"{self._psnr:.2f} dB: it keeps state outside its parameters and persistent "
                "buffers, which a file does not store"
            )
        lost = min(self._psnr, TRANSPARENT) - decoded
        if lost > NOTED_LOSS and not self._coarser:
            return [f"quantization loses {lost:.1f} dB; raise {option('bits')} to lose less"]
        return []

    def _quality(self, shown: list[np.ndarray]) -> float:
        """Return the mean PSNR of frames at the probed positions."""
        pairs = zip(self._positions, shown, strict=True)
        return float(np.mean([psnr(self._frames[t], frame) for t, frame in pairs]))

"""A fitted network -> the coded tensors of a segment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from nervkit.compression.tensors import compress_tensors
from nervkit.container.segment import ADAPTIVE, CONTEXTS, SegmentData
from nervkit.errors import Interrupted
from nervkit.fitting.coding import Codec
from nervkit.fitting.options import FitOptions
from nervkit.fitting.posttraining import Quantizer, compress_to_size
from nervkit.fitting.sensitivity import mean_squared_derivatives
from nervkit.fitting.shown import ShownQuality
from nervkit.models.base import Representation
from nervkit.video.colour import Colour


def compress_network(
    network: Representation,
    codec: Codec | None,
    options: FitOptions,
    frames: np.ndarray,
    colour: Colour,
    bits: tuple[int, int],
    exactly: bool,
    stop: Callable[[], bool],
) -> SegmentData:
    """Quantize and code all tensors that travel. The network is moved to the CPU.

    What was fitted through a quantizer, its `codec`, takes the bytes or shows the PSNR that it was
    fitted for, and the network becomes what the fit saw in the end. What was fitted in float is
    quantized by sensitivity to `options.coded_bytes`, or without a target to `bits` bits of weights
    and of embeddings.

    Args:
        network: fitted to `frames` (T, H, W, 3) uint8 of a `colour`, on the device that it was
            fitted on.
        exactly: whether a size is to be met as exactly as can be.
        stop: asked now and then; once True, Interrupted is raised.
    """

    def measured(done: int, total: int) -> None:
        if stop():
            raise Interrupted("stopped while the fit was quantized", resumable=True)

    count = len(network.stored())
    if codec is not None:
        shown = None
        if options.coded_psnr is not None:
            shown = ShownQuality(network, frames, options.metric, colour, stop)
        payload = codec.compress(network, shown, exactly)
        network.load_stored(codec.rounded(network))
        network.cpu()
        return SegmentData.of((CONTEXTS, count, payload))
    if options.coded_bytes is not None:
        derivatives = mean_squared_derivatives(network, on_progress=measured)
        quantizer = Quantizer(network.cpu(), derivatives)
        payload = compress_to_size([quantizer], options.coded_bytes)[0]
        return SegmentData.of((CONTEXTS, count, payload))
    network.cpu()
    groups = [
        (ADAPTIVE, len(tensors), compress_tensors(_arrays(tensors), width))
        for tensors, width in zip((network.weights(), network.embeddings()), bits, strict=True)
        if tensors
    ]
    return SegmentData.of(*groups)


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {k: v.detach().float().cpu().contiguous().numpy() for k, v in tensors.items()}

"""Noise removal: motion-compensated Wiener filtering by estimated noise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, Unpack, overload

import numpy as np
import torch

from nervkit.keywords import checked_keywords, select, setting, spelled_out
from nervkit.models.flow import optical_flow, warp
from nervkit.restoration.channels import (
    Channels,
    colour_space_of,
    has_subsampled_chroma,
    resized,
)
from nervkit.restoration.impulses import (
    find_impulses,
    impulse_share,
    reappearing,
    without_impulses,
)
from nervkit.restoration.kinds import FramesT, to_uint8
from nervkit.restoration.motion import composed
from nervkit.restoration.noise import (
    Noise,
    is_static_under_noise,
    median_noise,
    noise_of_pair,
    noise_of_plane,
    white_variance,
)
from nervkit.restoration.shrinkage import block_means, denoised
from nervkit.restoration.task import DEFAULTS, RestoreOptions, RestoreReport, Task
from nervkit.video.clip import Clip
from nervkit.video.colour import Colour
from nervkit.video.edit import EDIT_OPTIONS, Edit
from nervkit.video.planes import OwnPlanes, Planes
from nervkit.video.reader import FileSource, VideoSource

RADIUS = 4  # frames before and after that contribute to a frame
IMPULSES_MATTER = 0.003  # of all pixels: from this share on, a fit improves their replacement
# Standard deviations, in 8-bit steps. Weaker noise is hardly visible, and not distinguishable from
# the errors of motion compensation, which are larger at low frequencies.
FAINT, FAINT_COARSE = 2.3, 3.0


@overload
def denoise(
    source: VideoSource,
    output: str | os.PathLike[str],
    **options: Unpack[RestoreOptions],
) -> RestoreReport: ...
@overload
def denoise(
    source: FramesT,
    output: None = None,
    **options: Unpack[RestoreOptions],
) -> FramesT: ...
@overload
def denoise(
    source: FileSource | Clip,
    output: None = None,
    **options: Unpack[RestoreOptions],
) -> Clip: ...
@checked_keywords
@spelled_out(RestoreOptions, DEFAULTS)
def denoise(
    source: VideoSource,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[RestoreOptions],
) -> Any:
    """Remove noise from a video. Its kind and strength are estimated from the video.

    1. Frames are split into planes in which noise is white and independent: the source's own planes
       if they are 4:2:0, else luma and two colour differences (`colour_space_of`).
    2. Impulses are single pixels that differ strongly from their surroundings and do not appear in
       the neighbouring frames along the motion. They are replaced (`find_impulses`, `reappearing`).
    3. The noise of each plane is estimated by frequency and brightness, from motion-compensated
       differences of neighbouring frames (`noise_of_pair`). Noise too weak to be visible is left.
    4. The DCT coefficients of blocks of a frame and of motion-compensated blocks of its neighbours
       are shrunk according to that noise (`denoised`). An undamaged video passes nearly unchanged.

    With a fit, a representation with far fewer values than the frames first predicts what repeats
    in space and time, which noise does not (NeRV, 2110.13903; Ulyanov et al., "Deep image prior",
    1711.10925). Impulses and noise are then searched for in the residual. By default a fit is made
    if there are impulses, or if a static camera shows strong RGB noise.

    Args:
        source: anything that `read_clip` takes.
        output: as for `decode`. None returns the frames instead.
        **options: `fit` (whether to make one), the options of fitting (`encode`), reading
            (`read_clip`) and writing (`decode`), and callbacks; see `RestoreOptions`.

    Returns:
        With `output`, a RestoreReport. Its details are the standard deviation of the removed noise
        (8-bit levels of RGB) and the share of pixels that were impulses. Otherwise an array, tensor
        or list like the source, or a Clip for any other source.

    Raises:
        UsageError: an option is invalid.
        SourceError: the source cannot be read.
        OutputError: the output exists, or cannot be written.
        Interrupted: the user stopped the work.
    """
    task = Task(denoise, source, output, **options)
    clip, planes = _read(task)
    requested, fitted = task.fit_requested, None
    if requested is None:
        reason = _reason_to_fit(clip.frames, planes)
        requested = reason is not None
        if reason is not None:
            task.note(
                f"{reason}: nervkit makes a fit, which helps here ({setting('fit', False)} skips "
                "it)"
            )
    if requested:
        fitted = task.fit(without_impulses(clip.frames, task.search()))
    denoiser = Denoiser(clip.frames, fitted, planes, clip.colour)
    return task.deliver(clip, denoiser.frames(), fitted, details=denoiser.details)


def _reason_to_fit(frames: np.ndarray, planes: list[Planes] | None) -> str | None:
    """Return the damage of the frames that a fit is known to help with, if there is any."""
    share = impulse_share(frames)
    if share > IMPULSES_MATTER:
        return f"impulses on about {share:.1%} of all pixels"
    if planes is None and not has_subsampled_chroma(frames) and is_static_under_noise(frames):
        return "strong RGB noise with a static camera"
    return None


def _read(task: Task) -> tuple[Clip, list[Planes] | None]:
    """Return the clip, and the source's own 4:2:0 planes if they have the size of the clip."""
    edit = Edit.from_options(**select(task.reading, EDIT_OPTIONS))
    if edit.resize is not None:
        return task.read(), None
    planes: list[Planes] = []
    own = OwnPlanes(edit, planes.append)
    clip = task.read(own)
    return clip, planes if planes and own.complete else None


class Predictor(Protocol):
    """Predicts frames without noise, as Fitted does."""

    def predict(self, position: float) -> np.ndarray:
        """Return (H, W, 3) float32 in [0, 255]."""


class Observation(NamedTuple):
    """A noisy frame, analysed by itself."""

    frame: np.ndarray  # (H, W, 3) float32, without impulses
    hit: np.ndarray  # (H, W) bool, where the impulses were
    planes: Channels  # noisy
    predicted: Channels | None
    brightness: np.ndarray  # (H, W), in [0, 255], with most noise removed


class Denoiser:
    """Denoises the frames of a clip one by one."""

    def __init__(
        self,
        noisy: np.ndarray,
        fitted: Predictor | None = None,
        planes: Sequence[Planes] | None = None,
        colour: Colour | None = None,
    ) -> None:
        """`noisy` is (T, H, W, 3) uint8. `planes` are the source's own, if it is 4:2:0 of this
        size."""
        self._frames, self._fitted = noisy, fitted
        self._space = colour_space_of(noisy, planes, colour or Colour())
        self._observation = lru_cache(maxsize=2 * RADIUS + 1)(self._observe)
        self._flow = lru_cache(maxsize=4 * RADIUS)(self._optical_flow)
        self._noise = lru_cache(maxsize=4 * RADIUS)(self._estimate)
        self._deviations: list[float] = []
        self._impulses: list[float] = []

    def details(self) -> dict[str, Any]:
        """Return the mean noise deviation and impulse share of the frames so far."""
        return {
            "noise_deviation": float(np.mean(self._deviations)),
            "impulse_share": float(np.mean(self._impulses)),
        }

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the denoised frames, (H, W, 3) uint8 each."""
        for t in range(len(self._frames)):
            own = self._without_false_impulses(t)
            before, after = self._warped_neighbours(t, -1), self._warped_neighbours(t, 1)
            channels = []
            for channel, noise in enumerate(self._visible_noise(t)):
                here = _pair(own, channel)
                group = np.stack(
                    [*(b[channel] for b in before), here, *(a[channel] for a in after)]
                )
                prediction = group[..., 1] if group.shape[3] == 2 else None
                brightness = block_means(resized(own.brightness, here.shape[:2]))
                power = noise.in_blocks(brightness)
                channels.append(denoised(group[..., 0], prediction, power, len(before)))
            yield to_uint8(self._space.join(channels, own.planes, own.frame))
        for cache in (self._observation, self._flow, self._noise):
            cache.cache_clear()

    def _visible_noise(self, t: int) -> list[Noise]:
        """Return the noise of each plane of frame t, reduced to its visible part."""
        neighbours = [(a, a + step) for step in (-1, 1) for a in (t, t + step)]
        pairs = [pair for pair in neighbours if all(0 <= u < len(self._frames) for u in pair)]
        estimates = [self._noise(*pair) for pair in pairs] or [self._noise(t, t)]
        noises = [median_noise([one for one in of if one]) for of in zip(*estimates, strict=True)]
        white, coarse = zip(*(noise.split_white() for noise in noises), strict=True)
        shares = self._visible_share(white, FAINT), self._visible_share(coarse, FAINT_COARSE)
        noises = [
            noise._replace(power=shares[0] * a + shares[1] * b)
            for noise, a, b in zip(noises, white, coarse, strict=True)
        ]
        self._deviations.append(self._deviation([noise.power for noise in noises]))
        return noises

    def _deviation(self, powers: Sequence[np.ndarray]) -> float:
        """Return the standard deviation of an RGB sample for the noise power of each plane."""
        return float(np.sqrt(np.dot(self._space.gains, [power.mean() for power in powers])))

    def _visible_share(self, powers: Sequence[np.ndarray], limit: float) -> np.float32:
        """Return the share of the noise to remove: 0 up to a deviation of `limit`, then rising."""
        return np.float32(max(0.0, 1 - (limit / max(self._deviation(powers), 1e-3)) ** 4))

    def _estimate(self, first: int, second: int) -> list[Noise | None]:
        """Estimate the noise of each plane of frame `first`, from its difference to frame `second`.
        If both are the same frame, estimate it from that frame."""
        own, other = self._observation(first), self._observation(second)
        estimates = []
        for channel, plane in enumerate(own.planes):
            brightness = resized(own.brightness, plane.shape)
            residual = plane if own.predicted is None else plane - own.predicted[channel]
            if first == second:
                estimates.append(noise_of_plane(residual, brightness))
                continue
            flow = _flow_for(plane.shape, self._flow(first, second))
            neighbour = other.planes[channel]
            estimates.append(noise_of_pair(plane, neighbour, flow, residual, brightness))
        return estimates

    def _observe(self, t: int) -> Observation:
        frame = self._frames[t].astype(np.float32)
        predicted = None if self._fitted is None else self._fitted.predict(t)
        residual = frame if predicted is None else frame - predicted
        hit, median = find_impulses(residual, self._frames, t)
        frame[hit] = median[hit] if predicted is None else predicted[hit] + median[hit]
        planes = self._space.observed(t, frame)
        split = None if predicted is None else self._space.split(predicted)
        luma, prediction = planes[0], None if split is None else split[0]
        white = torch.tensor(white_variance(luma if prediction is None else luma - prediction))
        calm = denoised(luma[None], None if prediction is None else prediction[None], white, 0)
        return Observation(frame, hit, planes, split, self._space.brightness(calm))

    def _without_false_impulses(self, t: int) -> Observation:
        """Return frame t with the pixels restored that neighbouring frames show too."""
        own, frame = self._observation(t), self._frames[t]
        before, after = self._flows(t, -1), self._flows(t, 1)
        # The nearest two frames; at an end of the clip, both are on one side.
        nearest = [*before[:1], *after[:1]] if before and after else [*before, *after][:2]
        beside = [(self._frames[there], flow) for there, flow in nearest]
        again = reappearing(frame, own.hit, own.frame, beside)
        self._impulses.append(float((own.hit & ~again).mean()))
        if not again.any():
            return own
        restored = np.where(again[..., None], frame.astype(np.float32), own.frame)
        return own._replace(frame=restored, planes=self._space.observed(t, restored))

    def _warped_neighbours(self, t: int, step: int) -> list[list[np.ndarray]]:
        """Return the frames up to RADIUS steps from frame t in the direction of `step`, warped to
        it, in temporal order: for each the three planes as `_pair` returns them."""
        warped = []
        for there, flow in self._flows(t, step):
            pairs = (_pair(self._observation(there), channel) for channel in range(3))
            warped.append([warp(pair, _flow_for(pair.shape, flow)) for pair in pairs])
        return warped[::step]

    def _flows(self, t: int, step: int) -> list[tuple[int, np.ndarray]]:
        """Return the frames up to RADIUS steps from frame t and the flow to each, nearest first."""
        flows: list[tuple[int, np.ndarray]] = []
        for there in range(t + step, t + step * (RADIUS + 1), step):
            if not 0 <= there < len(self._frames):
                break
            onward = self._flow(there - step, there)
            flows.append((there, composed(flows[-1][1], onward) if flows else onward))
        return flows

    def _optical_flow(self, first: int, second: int) -> np.ndarray:
        return optical_flow(
            self._observation(first).brightness, self._observation(second).brightness
        )


def _pair(observation: Observation, channel: int) -> np.ndarray:
    """Return a plane and its prediction, (H, W, 2); without a fit the plane, (H, W, 1)."""
    plane = observation.planes[channel]
    if observation.predicted is None:
        return plane[..., None]
    return np.stack([plane, observation.predicted[channel]], axis=2)


def _flow_for(shape: tuple[int, ...], flow: np.ndarray) -> np.ndarray:
    """Return a flow (2, H, W) for a plane of its own or half its size."""
    if shape[:2] == flow.shape[1:]:
        return flow
    return np.stack([resized(part, shape[:2]) / 2 for part in flow])

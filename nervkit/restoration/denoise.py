"""Noise removal: what frames share along the motion, as far as it exceeds the noise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, Unpack, overload

import numpy as np
import torch

from nervkit.models.flow import moved, optical_flow
from nervkit.restoration.channels import Channels, resized, space_of, stored_by_halves
from nervkit.restoration.impulses import impulse_share, outliers, screened, seen_again
from nervkit.restoration.kinds import Given, pixels
from nervkit.restoration.motion import joined
from nervkit.restoration.noise import (
    Noise,
    noise_alone,
    noise_between,
    static_under_noise,
    typical,
    white_variance,
)
from nervkit.restoration.shrinkage import block_means, shrunk
from nervkit.restoration.task import RestoreOptions, RestoreReport, Task
from nervkit.video.clip import Clip
from nervkit.video.colour import Colour
from nervkit.video.edit import EDIT_OPTIONS, Edit
from nervkit.video.planes import OwnPlanes, Planes
from nervkit.video.reader import FileSource, VideoSource

REACH = 4  # frames before and after that say what a frame shows
IMPULSES_MATTER = 0.003  # of all pixels: from there on, a fit helps to replace them
# 8-bit steps. Noise so weak is hardly seen, and not distinguished from errors of the motion, which
# is coarse: more of it at low frequencies.
FAINT, COARSE = 2.3, 3.0


@overload
def denoise(
    source: VideoSource,
    output: str | os.PathLike[str],
    **options: Unpack[RestoreOptions],
) -> RestoreReport: ...
@overload
def denoise(
    source: Given,
    output: None = None,
    **options: Unpack[RestoreOptions],
) -> Given: ...
@overload
def denoise(
    source: FileSource | Clip,
    output: None = None,
    **options: Unpack[RestoreOptions],
) -> Clip: ...
def denoise(
    source: VideoSource,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[RestoreOptions],
) -> Any:
    """Remove noise from a video. Its kind and strength are estimated from the video.

    1. Frames become planes in which noise is white and independent: the source's own planes if they
       are 4:2:0, else luma and two colour differences (`space_of`).
    2. Impulses are single pixels that differ strongly from their surroundings and do not appear in
       the neighbouring frames along the motion. They are replaced (`outliers`, `seen_again`).
    3. The noise of each plane is measured by frequency and brightness, from motion-compensated
       differences of neighbouring frames (`noise_between`). Noise too weak to be visible is left.
    4. Blocks of a frame and motion-compensated blocks of its neighbours are shrunk in the DCT
       domain by that noise (`shrunk`). An undamaged video passes nearly unchanged.

    With a fit, a representation with far fewer values than the frames first predicts what repeats
    in space and time, which noise does not (NeRV, 2110.13903; Ulyanov et al., "Deep image prior",
    1711.10925). Impulses and noise are then searched for in the residual. By default a fit is made
    where there are impulses, and where a static camera shows strong RGB noise.

    Args:
        source: whatever `read_clip` takes.
        output: as for `decode`. None returns the frames instead.
        **options: `fit` (bool: whether to make one), and the options of fitting (`encode`), reading
            (`read_clip`) and writing (`decode`); see `Task`.

    Returns:
        With `output`, a RestoreReport. Its details are the standard deviation of the removed noise
        (8-bit levels of RGB) and the share of pixels that were impulses. Without `output`, an array
        or tensor like the source's, or a Clip where the source is a path.

    Raises:
        UsageError: an option is not understood or does not fit.
        SourceError: the source cannot be read.
        OutputError: the output exists, or cannot be written.
        Interrupted: the user stopped the work.
    """
    task = Task(denoise, source, output, **options)
    clip, planes = _read(task)
    wanted, fitted = task.fit_wanted, None
    if wanted is None:
        reason = _why_fit(clip.frames, planes)
        wanted = reason is not None
        if reason is not None:
            task.note(f"{reason}: a fit is made, which helps there (--no-fit does without)")
    if wanted:
        fitted = task.fit(screened(clip.frames, task.searched))
    cleaner = Cleaner(clip.frames, fitted, planes, clip.colour)
    return task.deliver(clip, cleaner.frames(), fitted, details=cleaner.found)


def _why_fit(frames: np.ndarray, planes: list[Planes] | None) -> str | None:
    """What a fit was measured to help with, if the frames have such."""
    share = impulse_share(frames)
    if share > IMPULSES_MATTER:
        return f"impulses on about {share:.1%} of all pixels"
    if planes is None and not stored_by_halves(frames) and static_under_noise(frames):
        return "strong noise of RGB before a static camera"
    return None


def _read(task: Task) -> tuple[Clip, list[Planes] | None]:
    """The clip, and the source's own planes where it has such of the clip's size."""
    edit = Edit.from_options(**{k: v for k, v in task.reading.items() if k in EDIT_OPTIONS})
    if edit.resize is not None:
        return task.read(), None
    planes: list[Planes] = []
    own = OwnPlanes(edit, planes.append)
    clip = task.read(own)
    return clip, planes if planes and own.complete else None


class Predictor(Protocol):
    """What says how frames should look; Fitted is one."""

    def predict(self, position: float) -> np.ndarray:
        """(H, W, 3) float32, 0 to 255."""


class Seen(NamedTuple):
    """What is known of a frame by itself."""

    frame: np.ndarray  # (H, W, 3) float32, without impulses
    hit: np.ndarray  # (H, W) bool, where they were
    noisy: Channels
    predicted: Channels | None
    light: np.ndarray  # (H, W) of the first plane, 0 to 255, without most of its noise


class Cleaner:
    """The frames of a noisy clip, cleaned one after the other."""

    def __init__(
        self,
        noisy: np.ndarray,
        fitted: Predictor | None = None,
        planes: Sequence[Planes] | None = None,
        colour: Colour | None = None,
    ) -> None:
        """`noisy` is (T, H, W, 3) uint8, `planes` are the source's own, where it is 4:2:0 of this
        size."""
        self._frames, self._fitted = noisy, fitted
        self._space = space_of(noisy, planes, colour or Colour())
        self._seen = lru_cache(maxsize=2 * REACH + 1)(self._alone)
        self._flow = lru_cache(maxsize=4 * REACH)(self._motion)
        self._noise = lru_cache(maxsize=4 * REACH)(self._between)
        self._deviations: list[float] = []
        self._impulses: list[float] = []

    def found(self) -> dict[str, Any]:
        """What the noise looked like, mean over the frames so far."""
        return {
            "noise_deviation": float(np.mean(self._deviations)),
            "impulse_share": float(np.mean(self._impulses)),
        }

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 each."""
        for t in range(len(self._frames)):
            seen = self._settled(t)
            before, after = self._neighbours(t, -1), self._neighbours(t, 1)
            cleaned = []
            for channel, noise in enumerate(self._noise_of(t)):
                here = _pair(seen, channel)
                group = np.stack(
                    [*(b[channel] for b in before), here, *(a[channel] for a in after)]
                )
                guess = group[..., 1] if group.shape[3] == 2 else None
                light = block_means(resized(seen.light, here.shape[:2]))
                power = noise.in_blocks(light)
                cleaned.append(shrunk(group[..., 0], guess, power, len(before)))
            yield pixels(self._space.join(cleaned, seen.noisy, seen.frame))
        for cache in (self._seen, self._flow, self._noise):
            cache.cache_clear()

    def _noise_of(self, t: int) -> list[Noise]:
        """That of each plane of frame t."""
        beside = [(a, a + step) for step in (-1, 1) for a in (t, t + step)]
        pairs = [pair for pair in beside if all(0 <= u < len(self._frames) for u in pair)]
        measured = [self._noise(*pair) for pair in pairs] or [self._noise(t, t)]
        noises = [typical([one for one in of if one]) for of in zip(*measured, strict=True)]
        white, coarse = zip(*(noise.parted() for noise in noises), strict=True)
        left = [self._exceeding(white, FAINT), self._exceeding(coarse, COARSE)]
        noises = [
            noise._replace(power=left[0] * a + left[1] * b)
            for noise, a, b in zip(noises, white, coarse, strict=True)
        ]
        self._deviations.append(self._deviation([noise.power for noise in noises]))
        return noises

    def _deviation(self, powers: Sequence[np.ndarray]) -> float:
        """Of a sample of RGB, for these powers of noise in each plane."""
        return float(np.sqrt(np.dot(self._space.gains, [power.mean() for power in powers])))

    def _exceeding(self, powers: Sequence[np.ndarray], limit: float) -> np.float32:
        """The share that is taken for noise, of what is none below a limit of its deviation."""
        return np.float32(max(0.0, 1 - (limit / max(self._deviation(powers), 1e-3)) ** 4))

    def _between(self, first: int, second: int) -> list[Noise | None]:
        """That of each plane of a frame, by another beside it; by itself, if it is the same."""
        seen, other = self._seen(first), self._seen(second)
        made = []
        for channel, plane in enumerate(seen.noisy):
            light = resized(seen.light, plane.shape)
            residual = plane if seen.predicted is None else plane - seen.predicted[channel]
            if first == second:
                made.append(noise_alone(residual, light))
                continue
            flow = _flow_for(plane.shape, self._flow(first, second))
            made.append(noise_between(plane, other.noisy[channel], flow, residual, light))
        return made

    def _alone(self, t: int) -> Seen:
        frame = self._frames[t].astype(np.float32)
        predicted = None if self._fitted is None else self._fitted.predict(t)
        residual = frame if predicted is None else frame - predicted
        hit, around = outliers(residual, self._frames, t)
        frame[hit] = around[hit] if predicted is None else predicted[hit] + around[hit]
        noisy = self._space.seen(t, frame)
        guess = None if predicted is None else self._space.split(predicted)
        luma, known = noisy[0], None if guess is None else guess[0]
        white = torch.tensor(white_variance(luma if known is None else luma - known))
        calm = shrunk(luma[None], None if known is None else known[None], white, 0)
        return Seen(frame, hit, noisy, guess, self._space.light(calm))

    def _settled(self, t: int) -> Seen:
        """Frame t with what was no impulse back in its place."""
        seen, frame = self._seen(t), self._frames[t]
        before, after = self._flows(t, -1), self._flows(t, 1)
        # The nearest two; at an end of the clip, both are on one side.
        nearest = [*before[:1], *after[:1]] if before and after else [*before, *after][:2]
        beside = [(self._frames[there], flow) for there, flow in nearest]
        again = seen_again(frame, seen.hit, seen.frame, beside)
        self._impulses.append(float((seen.hit & ~again).mean()))
        if not again.any():
            return seen
        settled = np.where(again[..., None], frame.astype(np.float32), seen.frame)
        return seen._replace(frame=settled, noisy=self._space.seen(t, settled))

    def _neighbours(self, t: int, step: int) -> list[list[np.ndarray]]:
        """The frames up to REACH steps from frame t, moved to where it is, the nearest last of
        those before and first of those after: the planes of each, as `_pair` has them."""
        made = []
        for there, flow in self._flows(t, step):
            pairs = (_pair(self._seen(there), channel) for channel in range(3))
            made.append([moved(pair, _flow_for(pair.shape, flow)) for pair in pairs])
        return made[::step]

    def _flows(self, t: int, step: int) -> list[tuple[int, np.ndarray]]:
        """The frames up to REACH steps from frame t, the nearest first, and the flow to each."""
        made: list[tuple[int, np.ndarray]] = []
        for there in range(t + step, t + step * (REACH + 1), step):
            if not 0 <= there < len(self._frames):
                break
            onward = self._flow(there - step, there)
            made.append((there, joined(made[-1][1], onward) if made else onward))
        return made

    def _motion(self, first: int, second: int) -> np.ndarray:
        return optical_flow(self._seen(first).light, self._seen(second).light)


def _pair(seen: Seen, channel: int) -> np.ndarray:
    """(H, W, 2) of a plane, as it is seen and as it is predicted; (H, W, 1) without a fit."""
    if seen.predicted is None:
        return seen.noisy[channel][..., None]
    return np.stack([seen.noisy[channel], seen.predicted[channel]], axis=2)


def _flow_for(shape: tuple[int, ...], flow: np.ndarray) -> np.ndarray:
    """A flow (2, H, W) for a plane of the same size, or of half of it."""
    if shape[:2] == flow.shape[1:]:
        return flow
    return np.stack([resized(part, shape[:2]) / 2 for part in flow])

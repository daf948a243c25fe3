"""The fit: one step, the loop around it, and the measurement that a time budget needs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nervkit.errors import Interrupted
from nervkit.fitting.checkpoint import Checkpoint, Saved
from nervkit.fitting.graphed import EAGER_CALLS, GraphedUpdate
from nervkit.fitting.guard import WINDOW, Guard
from nervkit.fitting.losses import BY_VALUE, LOSSES, error
from nervkit.fitting.optimizers import build_optimizers, recordable, schedule, set_rates
from nervkit.fitting.progress import Meter, Progress
from nervkit.models.base import Representation
from nervkit.models.blocks import to_float
from nervkit.models.device import autocast, choose_precision, reproducible
from nervkit.models.recipe import Recipe

PROBE_FRAMES = 4
WARM_UP_STEPS = EAGER_CALLS + 1  # they choose kernels and record a graph: not measured


@dataclass(frozen=True)
class FitSummary:
    """What a finished fit did. `seconds` counts all sessions of a resumed fit, `earlier_seconds`
    those before this one; `notes` say what went wrong and was mended."""

    steps: int
    seconds: float
    earlier_seconds: float = 0.0
    notes: tuple[str, ...] = ()


class Stepper:
    """One model, its frames and its optimizers; `step(k, steps)` is the k-th of `steps` updates."""

    def __init__(
        self,
        model: Representation,
        frames: Tensor,
        recipe: Recipe,
        *,
        seed: int = 0,
        keep: dict[str, Tensor] | None = None,
        known: Tensor | None = None,
        precision: str = "auto",
    ) -> None:
        """`frames` (T, 3, H, W) uint8 on the device to compute on; `keep` holds a mask for each
        pruned weight; `known` (T, 1 or 3, H, W) uint8 says how much each value of the frames
        counts, from 0 (not at all) to 255."""
        self.model, self.frames, self.recipe, self.seed = model, frames, recipe, seed
        self.known = known
        self.device = frames.device
        name = recipe.precision if precision == "auto" else precision
        self.dtype = choose_precision(name, self.device)
        if self.dtype == torch.bfloat16:
            model.to(memory_format=torch.channels_last)
        model.train()
        self.optimizers = build_optimizers(model, recipe)
        self.rate = 1.0  # of every rate of the recipe; a Guard cuts it
        self.notes: list[str] = []  # what went wrong and was mended
        self.batch = min(recipe.batch, len(frames))
        self.steps_per_epoch = -(-len(frames) // self.batch)
        self.pixels_per_step = self.batch * frames.shape[2] * frames.shape[3]
        parameters = dict(model.named_parameters())
        self._masked = [(parameters[name], mask) for name, mask in (keep or {}).items()]
        self._order: tuple[int, Tensor] | None = None
        self._graphed: GraphedUpdate | None = None
        if self.device.type == "cuda" and all(map(recordable, self.optimizers)):
            self._graphed = GraphedUpdate(self._update, self.notes.append)

    def step(self, k: int, steps: int) -> Tensor:
        """The k-th of `steps` updates; its error, a scalar on the device, valid until the next
        one. Nothing here waits for the device."""
        set_rates(self.optimizers, self.rate * schedule(k / steps, self.recipe))
        return (self._graphed or self._update)(self._batch_of(k))

    def state(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A copy of all that updates change: of the model's state and of each optimizer's."""
        optimizers = [copy.deepcopy(o.state_dict()) for o in self.optimizers]
        return copy.deepcopy(self.model.state_dict()), optimizers

    def put_back(self, state: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
        """Return to an earlier `state()`, which stays as it is."""
        model, optimizers = copy.deepcopy(state)
        self.model.load_state_dict(model)
        for optimizer, content in zip(self.optimizers, optimizers, strict=True):
            optimizer.load_state_dict(content)
        if self._graphed is not None:
            self._graphed.forget()

    def _update(self, index: Tensor) -> Tensor:
        """One update on the frames at `index` (B,), all of it on the device."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with reproducible(self.device):
            with autocast(self.device, self.dtype):
                output, target, known = self._compared(index)
            if known is not None:
                # What does not count is compared with itself, whatever the loss.
                target = torch.lerp(output.detach(), target, known)
            loss = LOSSES[self.recipe.loss](output, target)
            loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        for parameter, mask in self._masked:
            parameter.data.mul_(mask)
        return error(self.recipe.loss, loss.detach())

    def _compared(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the recipe's loss compares, and how much each value counts: float32."""
        frames, model = self.frames[index], self.model
        known = None if self.known is None else self.known[index].expand_as(frames)
        if self.recipe.loss in BY_VALUE:
            output = model.fit_values(index.float(), frames)
            frames = model.arranged(frames)
            known = None if known is None else model.arranged(known)
        else:
            output = model.fit_forward(index.float(), to_float(frames)).float()
        return output, to_float(frames), None if known is None else to_float(known)

    def _batch_of(self, k: int) -> Tensor:
        """Frame indices of step k. Each epoch is a permutation that depends on the seed and the
        epoch only, so a fit can be resumed anywhere."""
        epoch, position = divmod(k, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(((self.seed << 24) + epoch) % (1 << 63))
            order = torch.randperm(len(self.frames), generator=generator)
            self._order = epoch, order.to(self.device)
        return self._order[1][position * self.batch : (position + 1) * self.batch]

    @torch.inference_mode()
    def probe(self) -> float:
        """PSNR in dB of what counts, mean over a few frames spread over the clip, after rounding
        to 8 bits."""
        count = min(PROBE_FRAMES, len(self.frames))
        index = torch.linspace(0, len(self.frames) - 1, count, device=self.device).round().long()
        target = to_float(self.frames[index])
        with autocast(self.device, self.dtype):
            output = self.model.fit_forward(index.float(), target)
        error = (output.float().mul(255).round().div(255) - target).square()
        if self.known is None:
            error = error.mean(dim=(1, 2, 3))
        else:
            counting = to_float(self.known[index]).expand_as(error)
            error = (error * counting).sum(dim=(1, 2, 3)) / counting.sum(dim=(1, 2, 3)).clamp(min=1)
        return float((-10 * error.clamp(min=1e-10).log10()).mean())


def fit(
    stepper: Stepper,
    steps: int,
    *,
    record: dict[str, Any] | None = None,
    checkpoint: Checkpoint | None = None,
    saved: Saved | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FitSummary:
    """Run `steps` updates and finish the model, so that `model(t)` gives frames.

    Args:
        stepper: what to fit; its model is changed in place.
        record: kept in checkpoints; its "phase" names this run where an encode has several.
        checkpoint: saved on its interval, at the end and on `stop`; None saves nothing.
        saved: an earlier state of this same fit to go on from.
        on_progress: called about once a second.
        on_note: called with each of the summary's notes as it is made.
        stop: asked before every step; once True, the fit is saved and Interrupted is raised.

    A fit that diverges is taken back and goes on at lower rates (see Guard). Raises NervError
    where that does not help.
    """
    model, frames = stepper.model, stepper.frames
    record = record or {"phase": "fit"}
    step, spent_before = 0, 0.0
    if saved is not None:
        saved.restore(model, stepper.optimizers)
        step, spent_before = saved.progress["step"], saved.progress["seconds"]
    guard = Guard(stepper, step, saved and saved.progress.get("guard"))
    told = len(stepper.notes)
    meter = Meter(step)
    last_save = 0.0

    def save() -> None:
        if checkpoint is not None:
            seconds = spent_before + meter.elapsed()
            progress = record | {"step": step, "steps": steps, "seconds": seconds}
            progress["guard"] = guard.state()
            checkpoint.save(progress, model, stepper.optimizers)

    while step < steps:
        if stop():
            save()
            raise Interrupted(f"stopped at step {step} of {steps}")
        guard.add(stepper.step(step, steps))
        step += 1
        if step % WINDOW == 0 or step == steps:
            step = guard.look(step)
            for note in stepper.notes[told:] if on_note is not None else ():
                on_note(note)
            told = len(stepper.notes)
        if on_progress is not None and (meter.due() or step == steps):
            per_epoch = stepper.steps_per_epoch
            on_progress(meter.report(record["phase"], step, steps, per_epoch, stepper.probe))
        if checkpoint is not None and meter.elapsed() - last_save > checkpoint.interval:
            save()
            last_save = meter.elapsed()

    save()
    model.eval()
    with torch.no_grad():
        model.finish_fit(to_float(part) for part in frames.split(1))
    return FitSummary(steps, spent_before + meter.elapsed(), spent_before, tuple(stepper.notes))


def measure_step(stepper: Stepper, seconds: float) -> float:
    """Seconds per step, measured for about `seconds` on a copy that is thrown away."""
    trial = Stepper(
        copy.deepcopy(stepper.model),
        stepper.frames,
        stepper.recipe,
        seed=stepper.seed,
        known=stepper.known,
        precision="bfloat16" if stepper.dtype == torch.bfloat16 else "float32",
    )
    random = torch.get_rng_state()
    far = 1 << 30
    for k in range(WARM_UP_STEPS):
        trial.step(k, far)
    _synchronize(stepper.device)
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < seconds:
        trial.step(done, far)
        done += 1
        _synchronize(stepper.device)
    torch.set_rng_state(random)
    return (time.perf_counter() - start) / done


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

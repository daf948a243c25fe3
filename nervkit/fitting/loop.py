"""The fit: one step, and the loop around it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nervkit.errors import Interrupted, OutputError
from nervkit.fitting.budget import Seconds, Steps
from nervkit.fitting.checkpoint import Checkpoint, Saved
from nervkit.fitting.graphed import GraphedUpdate
from nervkit.fitting.guard import WINDOW, Guard
from nervkit.fitting.metric import RGB, Metric, loss_of
from nervkit.fitting.optimizers import (
    build_codec_optimizer,
    build_optimizers,
    recordable,
    schedule,
    set_rates,
)
from nervkit.fitting.progress import Meter, Pace, Progress
from nervkit.fitting.quantizing import Quantizing
from nervkit.fitting.threads import computing
from nervkit.models.base import Representation
from nervkit.models.blocks import to_float
from nervkit.models.device import autocast, choose_precision, reproducible
from nervkit.models.recipe import Recipe

PROBE_FRAMES = 4


@dataclass(frozen=True)
class FitSummary:
    """What a finished fit did. `seconds` counts all sessions of a resumed fit, `earlier_seconds`
    those before this one; `notes` say what went wrong and was mended or left out. `psnr` is in
    dB of RGB, of a few frames, as the fit itself makes them (see Stepper.probe)."""

    steps: int
    seconds: float
    earlier_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    psnr: float = float("nan")
    codec: Quantizing | None = None  # through which the network was fitted


def probed(frames: int) -> Tensor:
    """Positions of a few frames spread over a clip of `frames`, increasing."""
    return torch.linspace(0, frames - 1, min(PROBE_FRAMES, frames)).round().long()


class Called(nn.Module):
    """Calls methods of a model with some of its tensors replaced."""

    def __init__(self, model: Representation) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: str, *arguments: Any) -> Any:
        return getattr(self.model, method)(*arguments)

    def with_tensors(self, values: dict[str, Tensor], method: str, *arguments: Any) -> Any:
        """What `model.method(*arguments)` gives with the tensors `values`, by name."""
        if not values:
            return self(method, *arguments)
        replaced = {f"model.{name}": value for name, value in values.items()}
        return functional_call(self, replaced, (method, *arguments))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, by name."""
    return dict(model.named_buffers()) | dict(model.named_parameters())


def joined(model: Representation, codec: Quantizing | None) -> nn.Module:
    """All that updates of a fit change: a model, and what it is fitted through."""
    return model if codec is None else nn.ModuleList([model, codec])


class Stepper:
    """One model, its frames and its optimizers; `step(k, progress)` is the k-th update of a fit."""

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
        codec: Quantizing | None = None,
        metric: Metric | None = None,
    ) -> None:
        """`frames` (T, 3, H, W) uint8 on the device to compute on; `keep` holds a mask for each
        pruned weight; `known` (T, 1 or 3, H, W) uint8 says how much each value of the frames
        counts, from 0 (not at all) to 255. The model is fitted through `codec`, where there is one.
        `metric` is what the fit is optimised for, by default RGB, which `known` needs."""
        if known is not None and metric is not None and metric.name != RGB:
            raise ValueError("known values are of RGB: give no other metric with them")
        self.model, self.frames, self.recipe, self.seed = model, frames, recipe, seed
        self.known = known
        self.metric = metric or Metric()
        self._loss = loss_of(self.metric.name, recipe)
        self.device = frames.device
        name = recipe.precision if precision == "auto" else precision
        self.dtype = choose_precision(name, self.device)
        if self.dtype == torch.bfloat16:
            model.to(memory_format=torch.channels_last)
        model.train()
        self.optimizers = build_optimizers(model, recipe)
        self.codec = None if codec is None else codec.to(self.device)
        if self.codec is not None and any(True for _ in self.codec.parameters()):
            self.optimizers.append(build_codec_optimizer(self.codec, recipe))
        model.quantize_embedding = None if self.codec is None else self.codec.embedded
        #: all that updates change
        self.module = joined(model, self.codec)
        self._called = Called(model)
        self.rate = 1.0  # of every rate of the recipe; a Guard cuts it
        self.notes: list[str] = []  # what went wrong and was mended
        self.batch = min(recipe.batch, len(frames))
        self._drawn = torch.tensor(recipe.epoch(len(frames)))
        self.steps_per_epoch = -(-len(self._drawn) // self.batch)
        self.pixels_per_step = self.batch * frames.shape[2] * frames.shape[3]
        parameters = dict(model.named_parameters())
        self._masked = [(parameters[name], mask) for name, mask in (keep or {}).items()]
        self._order: tuple[int, Tensor] | None = None
        self._graphed: GraphedUpdate | None = None
        self._reached: torch.cuda.Event | None = None
        if self.device.type == "cuda" and all(map(recordable, self.optimizers)):
            self._graphed = GraphedUpdate(self._update, self.notes.append)

    def step(self, k: int, progress: float) -> Tensor:
        """The k-th update, at `progress` in [0, 1) of the schedule; its error, a scalar on the
        device, valid until the next one. Nothing here waits for the device."""
        set_rates(self.optimizers, self.rate * schedule(progress, self.recipe))
        update, index = self._graphed or self._update, self._batch_of(k)
        flags = () if self.codec is None else self.codec.flags(k, progress, self.recipe)
        error = update(index, *flags)
        self.model.after_step(k, progress, self.frames)
        return error

    def keep_up(self) -> None:
        """Wait for the update before the last one, so that the clock tells what a GPU has done and
        not what it was asked for."""
        if self.device.type == "cuda":
            if self._reached is not None:
                self._reached.synchronize()
            self._reached = torch.cuda.Event()
            self._reached.record()

    def state(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A copy of all that updates change: of the model's state and of each optimizer's."""
        optimizers = [copy.deepcopy(o.state_dict()) for o in self.optimizers]
        return copy.deepcopy(self.module.state_dict()), optimizers

    def put_back(self, state: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
        """Return to an earlier `state()`, which stays as it is."""
        model, optimizers = copy.deepcopy(state)
        self.module.load_state_dict(model)
        for optimizer, content in zip(self.optimizers, optimizers, strict=True):
            optimizer.load_state_dict(content)
        if self._graphed is not None:
            self._graphed.forget()

    def _update(self, index: Tensor, *flags: bool) -> Tensor:
        """One update on the frames at `index` (B,), all of it on the device, with the codec's
        flags."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        values: dict[str, Tensor] = {}
        coded: list[Tensor] = []
        with reproducible(self.device):
            if self.codec is not None:
                values, coded = self.codec(tensors_of(self.model), *flags)
            with autocast(self.device, self.dtype):
                outputs, target, known = self._compared(index, values)
            losses = [self._loss_of(output, target, known) for output in outputs]
            measured = self._loss.error(losses[0].detach())
            weighted = zip(self.model.output_weights, losses, strict=True)
            loss = sum(weight * part for weight, part in weighted)
            if self.codec is not None:
                loss = self.codec.objective(loss, measured, self._loss, coded, *flags)
            loss.backward()
        if self.recipe.most_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.most_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        for parameter, mask in self._masked:
            parameter.data.mul_(mask)
        return measured

    def _compared(
        self, index: Tensor, values: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor | None]:
        """What the loss compares, with what, and how much each value counts: float32."""
        frames, model = self.frames[index], self.model
        by_value = self.metric.by_value(self._loss)
        outputs = self._called.with_tensors(values, "fit_outputs", index.float(), frames, by_value)
        known = None if self.known is None else self.known[index].expand_as(frames)
        if by_value:
            frames = model.arranged(frames)
            known = None if known is None else model.arranged(known)
        return outputs, to_float(frames), None if known is None else to_float(known)

    def _loss_of(self, output: Tensor, target: Tensor, known: Tensor | None) -> Tensor:
        if known is not None:
            # What does not count is compared with itself, whatever the loss.
            target = torch.lerp(output.detach(), target, known)
        return self.metric.loss(self._loss, output, target)

    def _batch_of(self, k: int) -> Tensor:
        """Frame indices of step k. The order of an epoch depends on the seed and the epoch only,
        so a fit can be resumed anywhere."""
        epoch, position = divmod(k, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(((self.seed << 24) + epoch) % (1 << 63))
            order = torch.randperm(len(self._drawn), generator=generator)
            self._order = epoch, self._drawn[order].to(self.device)
        return self._order[1][position * self.batch : (position + 1) * self.batch]

    @torch.inference_mode()
    def probe(self, metric: Metric | None = None) -> float:
        """PSNR in dB of what counts, by the fit's metric or another, mean over a few frames spread
        over the clip, after rounding to 8 bits."""
        index = probed(len(self.frames)).to(self.device)
        target = to_float(self.frames[index])
        values = {} if self.codec is None else self.codec.rounded(self.model)
        with autocast(self.device, self.dtype):
            output = self._called.with_tensors(values, "fit_forward", index.float(), target)
        output = output.float().mul(255).round().div(255)
        if self.known is None:
            return float((metric or self.metric).psnr(output, target).mean())
        error = (output - target).square()
        counting = to_float(self.known[index]).expand_as(error)
        error = (error * counting).sum(dim=(1, 2, 3)) / counting.sum(dim=(1, 2, 3)).clamp(min=1)
        return float((-10 * error.clamp(min=1e-10).log10()).mean())


def fit(
    stepper: Stepper,
    steps: int | None = None,
    *,
    seconds: float | None = None,
    record: dict[str, Any] | None = None,
    checkpoint: Checkpoint | None = None,
    saved: Saved | None = None,
    on_pace: Callable[[float], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FitSummary:
    """Run updates and finish the model, so that `model(t)` gives frames.

    Args:
        stepper: what to fit; its model is changed in place.
        steps: how many updates; or:
        seconds: how long. The schedule then follows the clock, and on a CPU the number of threads
            is whatever makes steps fastest at the time.
        record: kept in checkpoints; its "phase" names this run where an encode has several.
        checkpoint: saved on its interval, at the end and on `stop`; None saves nothing.
        saved: an earlier state of this same fit to go on from.
        on_pace: called once, with the seconds that a step takes, after the first ones.
        on_progress: called about once a second.
        on_note: called with each of the summary's notes as it is made.
        stop: asked before every step; once True, the fit is saved and Interrupted is raised.

    A fit that diverges is taken back and goes on at lower rates (see Guard). Raises NervError
    where that does not help. A checkpoint that cannot be written is noted, and tried again later.
    """
    model, frames = stepper.model, stepper.frames
    record = record or {"phase": "fit"}
    if (steps is None) == (seconds is None):
        raise ValueError("give one of steps and seconds")
    length: Steps | Seconds = Steps(steps) if steps is not None else Seconds(seconds)
    step, spent_before = 0, 0.0
    if saved is not None:
        saved.restore(stepper.module, stepper.optimizers)
        step, spent_before = saved.progress["step"], saved.progress["seconds"]
    guard = Guard(stepper, step, saved and saved.progress.get("guard"))
    reported = len(stepper.notes)
    meter, pace = Meter(step), Pace(on_pace)
    last_save = 0.0

    def spent() -> float:
        return spent_before + meter.elapsed()

    def tell() -> None:
        nonlocal reported
        for note in stepper.notes[reported:] if on_note is not None else ():
            on_note(note)
        reported = len(stepper.notes)

    def save() -> bool:
        if checkpoint is None:
            return False
        progress = record | {"step": step, "seconds": spent(), "guard": guard.state()}
        try:
            checkpoint.save(progress, stepper.module, stepper.optimizers)
        except OutputError as error:
            note = f"{error}; the fit goes on without it"
            if note not in stepper.notes:
                stepper.notes.append(note)
                tell()
            return False
        return True

    def report() -> None:
        if on_progress is None:
            return
        now = spent()
        expected, per_epoch = length.expected(step, now), stepper.steps_per_epoch
        left = None if seconds is None else max(0.0, seconds - now)
        on_progress(meter.report(record["phase"], step, expected, per_epoch, stepper.probe, left))

    timed = seconds is not None
    with computing(stepper.device, stepper.pixels_per_step, timed=timed) as search:
        progress = length.progress(step, spent())
        while progress < 1:
            if stop():
                expected, kept = length.expected(step, spent()), save()
                raise Interrupted(f"stopped at step {step} of {expected}", resumable=kept)
            began = time.perf_counter()
            made = stepper.step(step, progress)
            guard.add(made)
            if timed:
                stepper.keep_up()
            if search is not None:
                search.took(time.perf_counter() - began)
            step += 1
            progress = length.progress(step, spent())
            pace.count(made.item, last=progress == 1)
            if step % WINDOW == 0 or progress == 1:
                step = guard.look(step)
                tell()
                progress = length.progress(step, spent())
            if meter.due() or progress == 1:
                report()
            if checkpoint is not None and meter.elapsed() - last_save > checkpoint.interval:
                save()
                last_save = meter.elapsed()

    save()
    psnr = stepper.probe(Metric())
    model.eval()
    with torch.no_grad():
        model.finish_fit(to_float(part) for part in frames.split(1))
    return FitSummary(step, spent(), spent_before, tuple(stepper.notes), psnr, stepper.codec)

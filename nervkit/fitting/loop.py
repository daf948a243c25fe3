"""The fit: Stepper does one step, `fit` runs the loop around it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nervkit.errors import Interrupted, OutputError
from nervkit.fitting.budget import Length, Seconds, Steps
from nervkit.fitting.checkpoint import Checkpoint, FinishedPhases, FitPosition, Saved
from nervkit.fitting.functional import FunctionalModel, named_tensors
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
from nervkit.fitting.quantizers import FitQuantizer, StepKind
from nervkit.fitting.threads import fit_threads
from nervkit.models.base import Representation
from nervkit.models.blocks import to_float
from nervkit.models.device import autocast, choose_precision, reproducible
from nervkit.models.recipe import Recipe

PROBE_FRAMES = 4

StepperState = tuple[dict[str, Any], list[dict[str, Any]]]


@dataclass(frozen=True)
class FitSummary:
    """What a finished fit did.

    Attributes:
        steps: done in all sessions.
        seconds: spent in all sessions of a resumed fit.
        earlier_seconds: spent in the sessions before this one.
        notes: divergences and other problems that the fit recovered from.
        psnr: dB of RGB, of a few frames as the fit computes them (see Stepper.probe).
        codec: the quantizer that the network was fitted through, if any.
    """

    steps: int
    seconds: float
    earlier_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    psnr: float = float("nan")
    codec: FitQuantizer | None = None


def probe_positions(frames: int) -> Tensor:
    """Return the positions of a few frames spread over a clip of `frames`, increasing."""
    return torch.linspace(0, frames - 1, min(PROBE_FRAMES, frames)).round().long()


def trained_module(model: Representation, codec: FitQuantizer | None) -> nn.Module:
    """Return all that steps change: a model, and the quantizer that it is fitted through."""
    return model if codec is None else nn.ModuleList([model, codec])


class Stepper:
    """A model, its frames and its optimizers; `step(k, progress)` does the k-th step of a fit."""

    def __init__(
        self,
        model: Representation,
        frames: Tensor,
        recipe: Recipe,
        *,
        seed: int = 0,
        masks: dict[str, Tensor] | None = None,
        known: Tensor | None = None,
        precision: str = "auto",
        codec: FitQuantizer | None = None,
        metric: Metric | None = None,
    ) -> None:
        """
        Args:
            model: the model to fit, in place.
            frames: (T, 3, H, W) uint8 on the device to compute on.
            recipe: loss, optimizers and schedule.
            seed: of the order of frames.
            masks: for each pruned weight by name, 1 where it is kept, else 0.
            known: (T, 1 or 3, H, W) uint8, the weight in the loss of each value of the frames, from
                0 (ignored) to 255; only for RGB.
            precision: "auto", "bfloat16" or "float32"; "auto" takes the recipe's.
            codec: the quantizer that the model is fitted through.
            metric: what the fit optimizes; None: RGB.
        """
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
            # torch's annotations of Module.to leave out memory_format.
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.train()
        self.optimizers = build_optimizers(model, recipe)
        self.codec = None if codec is None else codec.to(self.device)
        if self.codec is not None and any(True for _ in self.codec.parameters()):
            self.optimizers.append(build_codec_optimizer(self.codec, recipe))
        model.quantize_embedding = None if self.codec is None else self.codec.embedded
        #: all that steps change
        self.module = trained_module(model, self.codec)
        self._functional = FunctionalModel(model)
        self.rate = 1.0  # multiplier of the recipe's learning rates; a Guard lowers it
        self.notes: list[str] = []  # problems that the fit recovered from
        self.batch = min(recipe.batch, len(frames))
        self._epoch = torch.tensor(recipe.epoch(len(frames)))
        self.steps_per_epoch = -(-len(self._epoch) // self.batch)
        self.pixels_per_step = self.batch * frames.shape[2] * frames.shape[3]
        parameters = dict(model.named_parameters())
        self._masked = [(parameters[name], mask) for name, mask in (masks or {}).items()]
        self._order: tuple[int, Tensor] | None = None
        self._graphed: GraphedUpdate | None = None
        self._last_step: torch.cuda.Event | None = None
        if self.device.type == "cuda" and all(map(recordable, self.optimizers)):
            self._graphed = GraphedUpdate(self._update, self.notes.append)

    def step(self, k: int, progress: float) -> Tensor:
        """Do the k-th step, at `progress` in [0, 1) of the schedule, without waiting for the
        device. Return its error, a scalar on the device that the next step overwrites."""
        set_rates(self.optimizers, self.rate * schedule(progress, self.recipe))
        update, index = self._graphed or self._update, self._batch_of(k)
        kind = StepKind() if self.codec is None else self.codec.step_kind(k, progress, self.recipe)
        error = update(index, *kind)
        self.model.after_step(k, progress, self.frames)
        return error

    def keep_up(self) -> None:
        """Wait for the step before the last one, so that the clock measures a GPU's work and not
        its queue."""
        if self.device.type == "cuda":
            if self._last_step is not None:
                self._last_step.synchronize()
            self._last_step = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._last_step.record()

    def state(self) -> StepperState:
        """Return a copy of all that steps change: the model's state and each optimizer's."""
        optimizers = [copy.deepcopy(o.state_dict()) for o in self.optimizers]
        return copy.deepcopy(self.module.state_dict()), optimizers

    def put_back(self, state: StepperState) -> None:
        """Restore an earlier `state()`, which is copied."""
        model, optimizers = copy.deepcopy(state)
        self.module.load_state_dict(model)
        for optimizer, content in zip(self.optimizers, optimizers, strict=True):
            optimizer.load_state_dict(content)
        if self._graphed is not None:
            self._graphed.forget()

    def _update(self, index: Tensor, rounding: bool = False, rate: bool = False) -> Tensor:
        """Do a step of a StepKind on the frames at `index` (B,), all of it on the device."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        values: dict[str, Tensor] = {}
        coded: list[Tensor] = []
        with reproducible(self.device):
            if self.codec is not None:
                values, coded = self.codec(named_tensors(self.model), rounding, rate)
            with autocast(self.device, self.dtype):
                outputs, target, known = self._compared(index, values)
            losses = [self._loss_of(output, target, known) for output in outputs]
            error = self._loss.error(losses[0].detach())
            weights = self.model.output_weights
            first, *others = (w * loss for w, loss in zip(weights, losses, strict=True))
            loss = sum(others, first)
            if self.codec is not None:
                loss = self.codec.objective(loss, error, self._loss, coded, rounding, rate)
            torch.autograd.backward(loss)
        if self.recipe.most_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.most_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        for parameter, mask in self._masked:
            parameter.data.mul_(mask)
        return error

    def _compared(
        self, index: Tensor, values: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor | None]:
        """Return the outputs, the target and the weights that the loss compares, float32."""
        frames, model = self.frames[index], self.model
        by_value = self.metric.by_value(self._loss)
        arguments = index.float(), frames, by_value
        outputs = self._functional.with_tensors(values, "fit_outputs", *arguments)
        known = None if self.known is None else self.known[index].expand_as(frames)
        if by_value:
            frames = model.arranged(frames)
            known = None if known is None else model.arranged(known)
        return outputs, to_float(frames), None if known is None else to_float(known)

    def _loss_of(self, output: Tensor, target: Tensor, known: Tensor | None) -> Tensor:
        if known is not None:
            # Ignored values are compared with themselves, so that any loss works.
            target = torch.lerp(output.detach(), target, known)
        return self.metric.loss(self._loss, output, target)

    def _batch_of(self, k: int) -> Tensor:
        """Return the frame indices of step k. The order of an epoch depends on the seed and the
        epoch only, so that a fit can be resumed at any step."""
        epoch, position = divmod(k, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(((self.seed << 24) + epoch) % (1 << 63))
            order = torch.randperm(len(self._epoch), generator=generator)
            self._order = epoch, self._epoch[order].to(self.device)
        return self._order[1][position * self.batch : (position + 1) * self.batch]

    @torch.inference_mode()
    def probe(self, metric: Metric | None = None) -> float:
        """Return the PSNR in dB of the known values, rounded to 8 bits, by a metric (None: the
        fit's): the mean over a few frames spread over the clip."""
        index = probe_positions(len(self.frames)).to(self.device)
        target = to_float(self.frames[index])
        values = {} if self.codec is None else self.codec.rounded(self.model)
        with autocast(self.device, self.dtype):
            output = self._functional.with_tensors(values, "fit_forward", index.float(), target)
        output = output.float().mul(255).round().div(255)
        if self.known is None:
            return float((metric or self.metric).psnr(output, target).mean())
        error = (output - target).square()
        weight = to_float(self.known[index]).expand_as(error)
        error = (error * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp(min=1)
        return float((-10 * error.clamp(min=1e-10).log10()).mean())


def fit(
    stepper: Stepper,
    length: int | Length,
    *,
    phase: str = "fit",
    finished: FinishedPhases | None = None,
    checkpoint: Checkpoint | None = None,
    saved: Saved | None = None,
    on_pace: Callable[[float], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FitSummary:
    """Run the steps of a fit, or of a phase of it, and finish the model, so that `model(t)` returns
    frames.

    A fit that diverges goes back to its last good state and goes on at lower rates (see Guard).

    Args:
        stepper: what to fit; its model is changed in place.
        length: a number of steps, or `Steps` or `Seconds`. With `Seconds` the schedule follows the
            clock, and on a CPU the fit searches for the fastest number of threads.
        phase: name of the phase, for progress and checkpoints.
        finished: totals of earlier phases, for checkpoints only.
        checkpoint: saved on its interval, at the end and on `stop`; None saves nothing. A failed
            write becomes a note, and the fit tries again later.
        saved: an earlier state of this same phase to go on from.
        on_pace: called once with the seconds per step, after the first steps.
        on_progress: called about once a second.
        on_note: called with each of the summary's notes at once.
        stop: called before every step; once it returns True, the fit is saved.

    Raises:
        Interrupted: `stop` returned True. NervError: the fit diverges at lower rates too.
    """
    length = Steps(length) if isinstance(length, int) else length
    followers = _Followers(checkpoint, on_progress, on_note)
    run = _Run(stepper, length, phase, finished or FinishedPhases(), followers, saved)
    pace = Pace(on_pace)
    timed = isinstance(length, Seconds)
    with fit_threads(stepper.device, stepper.pixels_per_step, timed=timed) as search:
        progress = run.progress()
        while progress < 1:
            if stop():
                run.interrupt()
            began = time.perf_counter()
            error = stepper.step(run.step, progress)
            run.guard.add(error)
            if timed:
                stepper.keep_up()
            if search is not None:
                search.took(time.perf_counter() - began)
            run.step += 1
            progress = run.progress()
            pace.count(error.item, last=progress == 1)
            if run.step % WINDOW == 0 or progress == 1:
                run.check()
                progress = run.progress()
            run.report(last=progress == 1)
            run.save_if_due()

    run.save()
    psnr = stepper.probe(Metric())
    stepper.model.eval()
    with torch.no_grad():
        stepper.model.finish_fit(to_float(part) for part in torch.split(stepper.frames, 1))
    notes = tuple(stepper.notes)
    return FitSummary(run.step, run.seconds(), run.seconds_before, notes, psnr, stepper.codec)


@dataclass(frozen=True)
class _Followers:
    """The checkpoint and the callbacks of `fit`."""

    checkpoint: Checkpoint | None
    on_progress: Callable[[Progress], None] | None
    on_note: Callable[[str], None] | None


class _Run:
    """One session of `fit`: its position, clock and guard, and what follows it."""

    def __init__(
        self,
        stepper: Stepper,
        length: Length,
        phase: str,
        finished: FinishedPhases,
        followers: _Followers,
        saved: Saved | None,
    ) -> None:
        self._stepper, self._length, self._followers = stepper, length, followers
        self._phase, self._finished = phase, finished
        position = FitPosition() if saved is None else saved.position
        if saved is not None:
            saved.restore(stepper.module, stepper.optimizers)
        self.step, self.seconds_before = position.step, position.seconds
        self.guard = Guard(stepper, self.step, position.guard)
        self._reported = len(stepper.notes)
        self._meter = Meter(self.step)
        self._last_save = 0.0

    def seconds(self) -> float:
        """Return the seconds spent in all sessions."""
        return self.seconds_before + self._meter.elapsed()

    def progress(self) -> float:
        """Return the completed share."""
        return self._length.progress(self.step, self.seconds())

    def check(self) -> None:
        """Let the guard check a window that ends here."""
        self.step = self.guard.check(self.step)
        self._report_notes()

    def report(self, last: bool) -> None:
        """Report progress if that is due or this step is the `last` one."""
        on_progress, length = self._followers.on_progress, self._length
        due = self._meter.count(self.step)
        if on_progress is None or not (last or due):
            return
        now, per_epoch = self.seconds(), self._stepper.steps_per_epoch
        left = max(0.0, length.count - now) if isinstance(length, Seconds) else None
        expected, probe = length.expected(self.step, now), self._stepper.probe
        on_progress(self._meter.report(self._phase, self.step, expected, per_epoch, probe, left))

    def save_if_due(self) -> None:
        """Save the checkpoint on its interval."""
        checkpoint = self._followers.checkpoint
        if checkpoint is None or self._meter.elapsed() - self._last_save <= checkpoint.interval:
            return
        self.save()
        self._last_save = self._meter.elapsed()

    def save(self) -> bool:
        """Save the checkpoint, if there is one, and return whether it was written."""
        if self._followers.checkpoint is None:
            return False
        position = FitPosition(
            phase=self._phase,
            length=self._length,
            step=self.step,
            seconds=self.seconds(),
            guard=self.guard.state(),
            finished=self._finished,
        )
        stepper = self._stepper
        try:
            self._followers.checkpoint.save(position, stepper.module, stepper.optimizers)
        except OutputError as error:
            note = f"{error}; the fit goes on without it"
            if note not in stepper.notes:
                stepper.notes.append(note)
                self._report_notes()
            return False
        return True

    def interrupt(self) -> None:
        """Save the checkpoint and raise Interrupted."""
        expected, kept = self._length.expected(self.step, self.seconds()), self.save()
        raise Interrupted(f"stopped at step {self.step} of {expected}", resumable=kept)

    def _report_notes(self) -> None:
        notes, on_note = self._stepper.notes, self._followers.on_note
        if on_note is not None:
            for note in notes[self._reported :]:
                on_note(note)
        self._reported = len(notes)

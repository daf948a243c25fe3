"""Steps as graphs, on a CPU: a recorder repeats what a CUDA graph would repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from nervkit.compression.published import (
    EntropyMinimisation,
    Quantization,
    QuantizationAware,
    QuantNoise,
)
from nervkit.fitting.coding import Codec
from nervkit.fitting.graphed import EAGER_CALLS, GraphedUpdate
from nervkit.fitting.loop import Stepper, fit
from nervkit.fitting.quantizers import stage_quantizer
from nervkit.models.base import Representation
from nervkit.models.boost import NeRVBoost, NeRVBoostConfig
from nervkit.models.config import VideoShape
from nervkit.models.enerv import ENeRV, ENeRVConfig
from nervkit.models.gridnerv import GridNeRV, GridNeRVConfig
from nervkit.models.hnerv import HNeRV, HNeRVConfig
from nervkit.models.nerv import NeRV, NeRVConfig

FRAMES = 5  # in batches of two: the last batch of an epoch is smaller
CONFIGS = {
    GridNeRV: GridNeRVConfig(strides=(2, 4), widths=(10, 8), depths=(1, 1)),
    HNeRV: HNeRVConfig(strides=(4, 2), width=12),
    NeRV: NeRVConfig(strides=(2, 2), stem_width=16, grid_channels=4, min_width=8),
    ENeRV: ENeRVConfig(strides=(2, 2), token_width=8, head_width=2, grid_channels=4, min_width=4),
    NeRVBoost: NeRVBoostConfig(
        strides=(2, 2), depths=(1, 1), stem_width=16, grid_channels=4, condition_width=6
    ),
}


class Recorder(TorchDispatchMode):
    """Records every operation with its actual tensors and numbers. Like a CUDA graph, `replay`
    repeats them into the same memory and does not run the Python between them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tree_flatten(value)[0]:
                    self.before.setdefault(id(tensor), (tensor, tensor.clone()))
        output = func(*args, **kwargs)
        aliases = any(r.alias_info is not None for r in func._schema.returns)
        fresh = [] if aliases else [x for x in tree_flatten(output)[0] if isinstance(x, Tensor)]
        self.calls.append((func, args, kwargs, fresh))
        return output

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, outputs in self.calls:
                made = [x for x in tree_flatten(func(*args, **kwargs))[0] if isinstance(x, Tensor)]
                for output, value in zip(outputs, made, strict=False):
                    output.copy_(value)


def record(work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """Record what a CUDA graph would hold of `work`, and undo the effects of `work`."""
    recorder = Recorder()
    with recorder:
        output = work()
    with torch.no_grad():
        for tensor, value in reversed(recorder.before.values()):
            tensor.copy_(value)
    return output, recorder.replay


def stepper(model: type[Representation], graphed: bool, recipe: str = "native") -> Stepper:
    rng = np.random.default_rng(1)
    frames = torch.from_numpy(rng.integers(0, 256, (FRAMES, 3, 16, 24), np.uint8))
    torch.manual_seed(0)
    network = model(CONFIGS[model], VideoShape(FRAMES, 16, 24))
    made = Stepper(network, frames, model.recipes[recipe], precision="float32")
    if graphed:
        made._graphed = GraphedUpdate(made._update, made.notes.append, record)
    return made


CASES = [
    (GridNeRV, "native"),
    (HNeRV, "native"),
    (HNeRV, "paper"),
    (NeRV, "paper"),
    (ENeRV, "native"),
    (NeRVBoost, "paper"),
]


@pytest.mark.parametrize(("model", "recipe"), CASES)
def test_replayed_steps_are_the_same_steps(model: type[Representation], recipe: str) -> None:
    plain, graphed = stepper(model, False, recipe), stepper(model, True, recipe)
    for k in range(24):
        errors = [float(each.step(k, k / 24)) for each in (plain, graphed)]
        assert errors[0] == pytest.approx(errors[1], rel=1e-4), k
    for (name, a), b in zip(
        plain.model.named_parameters(), graphed.model.parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5, msg=name)


def test_steps_through_a_quantizer_are_recorded_for_each_combination_of_flags() -> None:
    """Noise differs between steps and from plain steps, so the test compares the results of the
    fits and the weight of the rate."""
    fits = []
    for graphed in (False, True):
        made = stepper(GridNeRV, False)
        model = made.model
        frames, recipe = made.frames, GridNeRV.recipes["native"]
        through = Stepper(model, frames, recipe, precision="float32", codec=Codec(model, 20_000))
        if graphed:
            through._graphed = GraphedUpdate(through._update, through.notes.append, record)
        torch.manual_seed(3)
        errors = [float(through.step(k, k / 40)) for k in range(40)]
        fits.append((through, errors))
    (plain, a), (graphed_fit, b) = fits
    assert set(graphed_fit._graphed._recorded) == {
        (rounding, rate) for rounding in (False, True) for rate in (False, True)
    }
    assert np.mean(b[-6:]) == pytest.approx(np.mean(a[-6:]), rel=0.1)
    assert float(graphed_fit.codec.progress) == pytest.approx(39 / 40)
    ratio = float(graphed_fit.codec.weight / plain.codec.weight)
    assert ratio == pytest.approx(1, rel=0.2) and float(plain.codec.weight) > 0
    assert not graphed_fit.notes


@pytest.mark.parametrize("model", [GridNeRV, HNeRV])
@pytest.mark.parametrize("stage", [QuantizationAware(), QuantNoise(), EntropyMinimisation()])
def test_steps_of_published_compressions_are_recorded(
    model: type[Representation], stage: Quantization
) -> None:
    """Their noise also differs from that of plain steps."""
    ends = []
    for graphed in (False, True):
        made = stepper(model, False)
        recipe = model.recipes["native"].slower(0.3)
        codec = stage_quantizer(made.model, stage, 16 * 24)
        through = Stepper(made.model, made.frames, recipe, precision="float32", codec=codec)
        if graphed:
            through._graphed = GraphedUpdate(through._update, through.notes.append, record)
        torch.manual_seed(3)
        errors = [float(through.step(k, k / 24)) for k in range(24)]
        ends.append(np.mean(errors[-6:]))
        assert through.notes == []
        assert not graphed or set(through._graphed._recorded) == {(False, False)}
    assert ends[1] == pytest.approx(ends[0], rel=0.1)


def test_recording_takes_nothing_and_replays_from_then_on() -> None:
    seen: list[str] = []

    def update(index: Tensor) -> Tensor:
        seen.append("run")
        total.add_(index.sum())
        return total * 1

    def counting(work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        output, replay = record(work)
        return output, lambda: (seen.append("replay"), replay())[1]

    total = torch.zeros(())
    graphed = GraphedUpdate(update, seen.append, counting)
    sums = [float(graphed(torch.tensor([k, 1]))) for k in range(6)]
    assert sums == [1, 3, 6, 10, 15, 21]
    assert seen == ["run"] * (EAGER_CALLS + 1) + ["replay"] * 3
    assert float(graphed(torch.tensor([4]))) == 25  # of another size: not replayed
    assert seen[-1] == "run"
    graphed.forget()
    assert float(graphed(torch.tensor([1, 1]))) == 27
    assert seen[-2:] == ["run", "replay"]


def test_what_cannot_be_recorded_is_run_and_noted() -> None:
    def refuse(work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    plain, refused = stepper(GridNeRV, False), stepper(GridNeRV, False)
    refused._graphed = GraphedUpdate(refused._update, refused.notes.append, refuse)
    notes: list[str] = []
    summary = fit(refused, 12, on_note=notes.append)
    fit(plain, 12)
    assert notes == list(summary.notes)
    assert notes == [
        "steps are slower than they could be: no CUDA graph "
        "(operation not permitted when stream is capturing)"
    ]
    for a, b in zip(plain.model.parameters(), refused.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_graph_is_recorded_anew_after_a_diverging_fit_is_taken_back() -> None:
    plain, graphed = stepper(GridNeRV, False), stepper(GridNeRV, True)
    for each in (plain, graphed):
        for k in range(8):
            each.step(k, k / 30)
        kept = each.state()
        for k in range(8, 14):
            each.step(k, k / 30)
        each.put_back(kept)
        each.rate = 0.3
        for k in range(8, 20):
            each.step(k, k / 30)
    for a, b in zip(plain.model.parameters(), graphed.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)

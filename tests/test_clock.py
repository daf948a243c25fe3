"""Fits with a time budget: schedules that follow the clock, and the number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from nervkit.errors import Interrupted
from nervkit.fitting import job, loop, progress, threads
from nervkit.fitting.budget import Seconds, Steps
from nervkit.fitting.loop import Stepper, fit
from nervkit.fitting.progress import Progress
from nervkit.fitting.threads import ThreadSearch, fit_threads, most_threads, threads_for
from nervkit.models.gridnerv import GridNeRV
from tests.test_fitting import encode, stepper, stop_after

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_of_steps_ends_after_them() -> None:
    length = Steps(8)
    assert [length.progress(step, 1e9) for step in (0, 2, 8)] == [0, 0.25, 1]
    assert length.expected(3, 1.0) == 8


def test_a_run_of_seconds_follows_the_clock() -> None:
    length = Seconds(10)
    assert length.progress(0, 0) == 0
    assert length.progress(1000, 2.5) == 0.25
    assert length.progress(2, 2.5) == 0.25
    assert length.expected(1000, 2.5) == 4000
    assert length.expected(0, 0) == 0


def test_a_run_of_seconds_ends_as_near_to_its_time_as_steps_allow() -> None:
    length = Seconds(10)
    assert length.progress(0, 11) < 1  # one step at least
    assert length.progress(1, 11) == 1
    assert length.progress(3, 9) == 1  # the next step would end at 12
    assert length.progress(4, 8.8) < 1  # at 11, which is nearer than 8.8
    assert length.expected(3, 9) == 3


class Clock:
    """A clock for the fit loop and its meter: each step takes `pace(step)` seconds, all else takes
    none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pace: Callable[[int], float]) -> None:
        self.now, self.rates = 1000.0, []
        plain = Stepper.step

        def step(stepper: Stepper, k: int, progress: float) -> Tensor:
            self.now += pace(k)
            self.rates.append(progress)
            return plain(stepper, k, progress)

        monkeypatch.setattr(Stepper, "step", step)
        fake = SimpleNamespace(perf_counter=lambda: self.now)
        for module in (loop, progress, job):
            name = "clock" if module is job else "time"
            monkeypatch.setattr(module, name, fake)


def test_a_schedule_follows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is four times slower for the first half of the time."""
    clock = Clock(monkeypatch, lambda k: 4.0 if k < 10 else 1.0)
    reports: list[Progress] = []
    summary = fit(stepper(), Seconds(80), on_progress=reports.append)
    slow, fast = [0.05 * k for k in range(10)], [0.5 + k / 80 for k in range(40)]
    assert clock.rates == pytest.approx(slow + fast)
    assert (summary.steps, summary.seconds) == (50, 80)
    early, last = reports[4], reports[-1]
    assert (early.step, early.steps, early.seconds_left) == (5, 20, 60)
    assert (last.step, last.steps, last.seconds_left) == (50, 50, 0)


def test_slow_first_steps_do_not_count_for_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, lambda k: 60.0 if k < 2 else 1.0)
    reports: list[Progress] = []
    fit(stepper(), Steps(40), on_progress=reports.append)
    left = {report.step: report.seconds_left for report in reports}
    assert left[2] == 38 * 60
    assert [left[step] for step in (6, 7, 39, 40)] == [34, 33, 1, 0]


def test_a_clock_ends_one_slow_step_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, lambda k: 7.0)
    assert fit(stepper(), Seconds(20)).steps == 3
    assert clock.now == 1021
    assert fit(stepper(), Seconds(3)).steps == 1


@pytest.mark.parametrize("prune", [0.0, 0.3])
@pytest.mark.parametrize("calls", [None, 3, 11, 19])
def test_a_time_budget_is_shared_by_phases_and_sessions(
    prune: float, calls: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setup takes 3 of 23 seconds. With pruning, fine-tuning takes 15%; sessions make no
    difference."""
    clock = Clock(monkeypatch, lambda k: 1.0)
    plain = GridNeRV.start_fit

    def slow(*arguments: Any) -> None:
        clock.now += 3
        plain(*arguments)

    monkeypatch.setattr(GridNeRV, "start_fit", slow)
    reports: list[Progress] = []
    options: dict[str, Any] = {"steps": None, "time": 23, "on_progress": reports.append}
    options |= {"prune": prune, "params": 3000}
    if calls is not None:
        with pytest.raises(Interrupted):
            encode(tmp_path / "a.nerv", stop=stop_after(calls), **options)
    report = encode(tmp_path / "a.nerv", **options)
    assert (report.steps, report.fit_seconds) == (20, 20)
    phases = {r.phase: r.step for r in reports}
    assert phases == ({"fit": 17, "fine-tune": 3} if prune else {"fit": 20})


# Threads


class Machine:
    """Sequential steps that take `seconds[threads]` with the current number of threads."""

    def __init__(self, search: ThreadSearch, seconds: dict[int, float]) -> None:
        self.search, self.seconds = search, seconds
        self.used: list[int] = []

    def run(self, span: float) -> None:
        """Make steps for this many seconds."""
        while span > 0:
            count = torch.get_num_threads()
            self.used.append(count)
            span -= self.seconds[count]
            self.search.took(self.seconds[count])


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("seconds", "start", "best"),
    [
        ({1: 0.1, 2: 0.2}, 2, 1),
        ({1: 0.2, 2: 0.1}, 2, 2),
        ({1: 0.2, 2: 0.1}, 1, 2),
        ({1: 0.100, 2: 0.098}, 1, 1),  # hardly a gain
        ({1: 0.9, 2: 0.5, 4: 0.3, 8: 0.4, 16: 2.0}, 16, 4),
        ({1: 0.9, 2: 0.5, 4: 0.3, 6: 0.2}, 1, 6),
        ({1: 30.0, 2: 20.0, 4: 45.0}, 4, 2),
    ],
)
def test_the_fastest_number_of_threads_is_found(
    seconds: dict[int, float], start: int, best: int, set_threads: Callable[[int], None]
) -> None:
    set_threads(start)
    search = ThreadSearch(start, max(seconds))
    machine = Machine(search, seconds)
    machine.run(25 * max(seconds.values()))
    assert machine.used[-1] == search.count == best


def test_threads_are_chosen_again_when_the_machine_changes(
    set_threads: Callable[[int], None],
) -> None:
    set_threads(2)
    machine = Machine(ThreadSearch(2, 2), {1: 0.13, 2: 0.09})
    machine.run(20)
    assert machine.used[-1] == 2
    machine.seconds = {1: 0.14, 2: 0.25}  # another process takes half of a core
    machine.run(10)
    assert machine.used[-1] == 1
    machine.seconds = {1: 0.13, 2: 0.09}  # one thread does not notice that it has gone
    machine.run(70)
    assert machine.used[-1] == 2
    machine.used.clear()
    machine.run(30)
    assert set(machine.used) == {2}  # nothing is tried without need


def test_a_restless_machine_is_not_searched_all_the_time(
    set_threads: Callable[[int], None],
) -> None:
    set_threads(2)
    machine = Machine(ThreadSearch(2, 2), {1: 0.2, 2: 0.1})
    for k in range(60):
        machine.seconds = {1: 0.2, 2: 0.1} if k % 2 else {1: 0.4, 2: 0.2}
        machine.run(2)
    assert machine.used.count(2) > 0.85 * len(machine.used)


def test_small_steps_have_one_thread() -> None:
    assert threads_for(2 * 96 * 64, most=8) == 1
    assert threads_for(2 * 320 * 180, most=2) == 2
    assert threads_for(2 * 320 * 180, most=64) == 9
    assert threads_for(2 * 1280 * 720, most=8) == 8


def test_a_fit_leaves_the_number_of_threads_as_it_was(
    set_threads: Callable[[int], None],
) -> None:
    cpu, inside = torch.device("cpu"), []
    for count in (1, 2, 3):
        set_threads(count)
        for timed in (False, True):
            with fit_threads(cpu, 30_000, timed=timed) as search:
                inside.append(torch.get_num_threads())
                torch.set_num_threads(4)
            assert (search is not None) == (timed and count > 1)
            assert torch.get_num_threads() == count
    assert inside == [1, 1, 2, 2, 2, 2]
    with pytest.raises(Interrupted):
        fit(stepper(), 3, stop=lambda: True)
    assert torch.get_num_threads() == 3


def test_a_fit_of_steps_does_not_depend_on_a_measurement(
    set_threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of a fit depends on its number of threads, to the last bit."""
    set_threads(2)
    monkeypatch.setattr(ThreadSearch, "took", lambda *_: pytest.fail("a step was timed"))
    fit(stepper(), 3)


@pytest.mark.parametrize(
    ("quota", "most"), [("max 100000", 3), ("150000 100000", 2), ("20000 100000", 1)]
)
def test_a_containers_share_bounds_the_threads(
    quota: str,
    most: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    set_threads: Callable[[int], None],
) -> None:
    set_threads(3)
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(threads, "CPU_QUOTA", tmp_path / "cpu.max")
    assert most_threads() == most

"""The plan that a fit announces when it begins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nervkit
from nervkit.cli.console import approximate_duration, format_size
from nervkit.cli.encode_display import plan_line
from nervkit.errors import Interrupted
from nervkit.fitting.progress import PACE_STEPS, WARM_UP_STEPS, Pace
from nervkit.plan import FitPlan
from tests.command import run_nervkit
from tests.test_target import waves

pytestmark = pytest.mark.usefixtures("one_thread")
PLAN = FitPlan("gridnerv", 178_000, 120_400, 0.1496, 1200, 0, 125.0, 2)


def encode(path: Path, source: Any = None, **options: Any) -> tuple[nervkit.EncodeReport, FitPlan]:
    """Encode; return the report and the one plan that was announced."""
    plans: list[FitPlan] = []
    options = {"overwrite": True, "device": "cpu"} | options
    if "time" not in options:
        options = {"steps": 12} | options
    source = waves() if source is None else source
    report = nervkit.encode(source, path, on_plan=plans.append, **options)
    (plan,) = plans
    return report, plan


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "hnerv", "bits": 6, "embedding_bits": 10},
        {"model": "nerv", "params": "12k"},
        {"prune": 0.4, "steps": 30},
    ],
)
def test_a_plan_is_near_the_file(tmp_path: Path, options: dict[str, Any]) -> None:
    report, plan = encode(tmp_path / "a.nerv", **options)
    assert (plan.model, plan.values) == (report.model, report.parameters)
    assert plan.bytes == pytest.approx(report.bytes, rel=0.2)
    assert plan.bpp == pytest.approx(report.bpp, rel=0.2)
    assert (plan.steps, plan.done, plan.threads) == (report.steps, 0, 1)
    assert plan.seconds > 0


def test_tracks_are_counted_but_not_in_bits_per_pixel(bunny: Path, tmp_path: Path) -> None:
    report, plan = encode(tmp_path / "a.nerv", bunny, frames="0:4", resize="96x54")
    assert report.bytes_by_part["tracks"] > 5_000
    assert plan.bytes == pytest.approx(report.bytes, rel=0.1)
    assert plan.bpp == pytest.approx(report.bpp, rel=0.2)


def test_a_target_is_the_plan(tmp_path: Path) -> None:
    report, plan = encode(tmp_path / "a.nerv", target_size=6_000)
    assert abs(plan.bytes - 6_000) <= 10
    assert plan.values == report.parameters


def test_by_the_clock_the_plan_is_what_was_asked(tmp_path: Path) -> None:
    _, plan = encode(tmp_path / "a.nerv", time="1s")
    assert (plan.steps, plan.seconds, plan.threads) == (None, 1.0, None)


@pytest.mark.parametrize("stop_at", [4, 11])
def test_what_is_left_of_an_interrupted_fit(tmp_path: Path, stop_at: int) -> None:
    """Both in the fit and in the fine-tuning after it."""
    options = {"prune": 0.2, "steps": 12}
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        encode(tmp_path / "a.nerv", stop=lambda: next(calls) == stop_at, **options)
    _, plan = encode(tmp_path / "a.nerv", **options)
    assert (plan.steps, plan.done) == (12, stop_at)


def test_nobody_need_ask(tmp_path: Path) -> None:
    once, again = tmp_path / "once.nerv", tmp_path / "again.nerv"
    encode(once)
    nervkit.encode(waves(), again, steps=12, device="cpu")
    assert once.read_bytes() == again.read_bytes()


def test_the_first_steps_are_timed_without_those_that_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a device synchronization before and after the timed steps, and only there."""
    now, waits, paces = [0.0], [], []
    monkeypatch.setattr("nervkit.fitting.progress.time.perf_counter", lambda: now[0])

    def timed(seconds: list[float]) -> None:
        now[0] = 0.0
        waits.clear()
        paces.clear()
        pace = Pace(paces.append)
        for index, second in enumerate(seconds):
            now[0] += second
            pace.count(lambda at=index: waits.append(at), index == len(seconds) - 1)

    slow = [9.0] * WARM_UP_STEPS
    timed([*slow, *[0.25] * PACE_STEPS, 7.0, 7.0])
    assert (paces, waits) == ([0.25], [WARM_UP_STEPS - 1, WARM_UP_STEPS + PACE_STEPS - 1])
    timed([*slow, *[0.01] * 100])
    assert paces == [pytest.approx(0.01)]
    timed([*slow, 0.25])  # a fit may be shorter
    assert paces == [0.25]
    timed([2.0, 4.0])
    assert (paces, waits) == ([3.0], [1])
    Pace(None).count(lambda: waits.append(-1), True)
    assert waits == [1]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {},
            "gridnerv, 178,000 values, a file of about 120 kB (video 0.15 bpp), 1,200 steps, "
            "about 2 min on 2",
        ),
        (
            {"done": 1000, "seconds": 20.0, "threads": 1},
            "the last 200 of 1,200 steps, about 20 s on 1 thread",
        ),
        ({"threads": None, "steps": 1}, "(video 0.15 bpp), 1 step, about 2 min"),
        ({"steps": None}, "(video 0.15 bpp), 2m05s of wall-clock time"),
    ],
)
def test_the_line(changes: dict[str, Any], text: str) -> None:
    assert text in plan_line(FitPlan(**(vars(PLAN) | changes)))


def test_rough_numbers() -> None:
    assert [approximate_duration(s) for s in (0.01, 8.2, 89, 91, 5399, 9000)] == [
        *("1 s", "8 s", "89 s", "2 min", "90 min", "2.5 h"),
    ]
    assert [format_size(n) for n in (12, 6_123, 120_400, 999_600, 1_250_000, 3 * 10**9)] == [
        *("12 bytes", "6.12 kB", "120 kB", "1 MB", "1.25 MB", "3 GB"),
    ]


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_the_command_says_it_once_before_the_fit(tmp_path: Path, json: list[str]) -> None:
    """On stderr, with all messages for people."""
    np.save(tmp_path / "clip.npy", waves())
    arguments = ["encode", "clip.npy", "-o", "a.nerv", "--steps", "9", "--device", "cpu", *json]
    done = run_nervkit(*arguments, cwd=tmp_path, code=0)
    # A slow machine shows progress on the way.
    under_way = r"fit step [0-8]/9"
    lines = [line for line in done.stderr.splitlines() if not re.match(under_way, line)]
    pattern = (
        r"gridnerv, [\d,]+ values, a file of about [\d.]+ kB \(video [\d.]+ bpp\), 9 steps, "
        r"about \d+ s on"
    )
    (said,) = (index for index, line in enumerate(lines) if re.match(pattern, line))
    assert "8 frames of 64x48" in lines[said - 1] or "note" in lines[said - 1]
    assert "fit step 9/9" in lines[said + 1]
    assert "values, a file" not in done.stdout

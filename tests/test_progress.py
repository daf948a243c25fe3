"""Progress for Python programs: in a terminal, a notebook and a log."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nervkit
from nervkit.errors import UsageError
from nervkit.fitting.progress import Progress
from nervkit.progress import ProgressBar, show_count
from tests.test_target import waves


def fitted(step: int) -> Progress:
    return Progress("fit", step, 10, step / 2, 0.5, 31.5, 20.0)


def test_a_log_gets_lines_of_work_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar()
    bar(1, 3)
    bar(2, 3)
    bar(3, 3)
    bar(fitted(3))
    bar(fitted(10))
    bar(Progress("denoise", 4, 4, 0.0, 2.0, math.nan, 0.0))
    counted, fit, frames = capsys.readouterr().err.splitlines()
    assert frames == "denoise 4/4  2.0/s  0.0s left"
    assert counted.startswith("frame 3/3")
    assert fit == "fit step 10/10  epoch 5.0  2.0 s/step  PSNR 31.50 dB  20.0s left"


def test_what_is_no_progress_opens_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nervkit.progress.stderr_bar", lambda: pytest.fail("opened"))
    for wrong in ((), (5,), (1, 2, 3)):
        with pytest.raises(UsageError, match="a ProgressBar shows"):
            ProgressBar()(*wrong)
    with pytest.raises(UsageError, match=r"pass a bar, ProgressBar\(\)"):
        ProgressBar(fitted(1))


def test_a_total_may_be_unknown() -> None:
    shown: list[tuple[int, int, str]] = []
    count = show_count("", "frame", lambda *now: shown.append(now))
    count(1, None)
    count(2, None)
    assert [now[:2] for now in shown] == [(1, 2), (2, 3)]
    assert shown[1][2].startswith("frame 2  ")


def test_a_notebook_gets_one_bar_for_each_work(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[str]] = []

    class Handle:
        def __init__(self) -> None:
            shown.append([])

        def update(self, content: str) -> None:
            shown[-1].append(content)

    shell: Any = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace(kernel=object())
    display: Any = ModuleType("IPython.display")
    display.HTML = str
    display.display = lambda content, display_id: Handle()
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    with ProgressBar() as bar:
        bar(fitted(5))
        bar(fitted(10))
        bar(1, 2)
    assert [len(updates) for updates in shown] == [2, 1]
    assert '<progress value="5" max="10"' in shown[0][0]
    assert "PSNR 31.50 dB" in shown[0][1]


def test_functions_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, options = tmp_path / "a.nerv", {"params": "6k", "device": "cpu"}
    nervkit.encode(waves(4), path, steps=3, on_progress=ProgressBar(), **options)
    assert "fit step 3/3" in capsys.readouterr().err
    bar = ProgressBar()
    nervkit.encode(
        waves(4),
        path,
        steps=2,
        segments=2,
        overwrite=True,
        on_segments=bar,
        on_progress=bar,
        **options,
    )
    assert "segments 2/2 done" in capsys.readouterr().err
    nervkit.decode(path, tmp_path / "a.npy", on_progress=ProgressBar())
    assert "frame 4/4" in capsys.readouterr().err
    assert np.load(tmp_path / "a.npy").shape == (4, 48, 64, 3)

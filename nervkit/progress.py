"""Progress bars for a terminal, a notebook or a log. This module does not import torch.

Pass one as a callback:

    nervkit.encode("in.mp4", "out.nerv", on_progress=nervkit.ProgressBar())
"""

from __future__ import annotations

import html
import math
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from nervkit.errors import UsageError

if TYPE_CHECKING:
    from nervkit.encoding.run import SegmentsProgress
    from nervkit.fitting.progress import Progress

Show = Callable[[int, int, str], None]  # (done, total, text)
Count = Callable[[int, int | None], None]  # (done, total); None: unknown
PLAIN_SECONDS = 10.0  # between two lines in a log
CLASS_GIVEN = "pass a bar, ProgressBar(), instead of the class ProgressBar"
BAR_WIDTH = 24  # characters


class ProgressBar:
    """A callback for `on_progress` and `on_segments` of every function of nervkit.

    It shows a bar in a Jupyter notebook or a terminal. Otherwise it prints a line on standard error
    about every ten seconds. A finished bar stays visible, and the next task begins a new one. As a
    context manager, it also ends the bar of a task that raised.
    """

    def __init__(self, *progress: Any) -> None:
        if progress:
            raise UsageError(CLASS_GIVEN)
        self._show: Show | None = None
        self._count: Count | None = None
        self._opened = ExitStack()
        weakref.finalize(self, self._opened.close)  # shows the cursor that the bar hides

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, *progress: Any) -> None:
        """Show one report: a fit's Progress, a SegmentsProgress, or two numbers (done, total).
        Raises UsageError for anything else."""
        if len(progress) != 2 and not (len(progress) == 1 and _is_report(progress[0])):
            raise UsageError("a ProgressBar shows (done, total), a Progress or a SegmentsProgress")
        if self._show is None:
            self._show = notebook_bar() or self._opened.enter_context(stderr_bar())
        if len(progress) == 2:
            self._count = self._count or show_count("", "frame", self._show)
            self._count(*progress)
            finished = progress[1] is not None and progress[0] >= progress[1]
        elif hasattr(progress[0], "frames_done"):
            show_segments(self._show)(progress[0])
            finished = progress[0].whole and progress[0].done == progress[0].known
        else:
            show_fit(self._show)(progress[0])
            finished = progress[0].step >= progress[0].steps
        if finished:
            self.close()

    def close(self) -> None:
        """End the bar. The next report begins a new one."""
        self._opened.close()
        self._show = self._count = None


def check_callback(callback: object, name: str) -> None:
    """Raise UsageError unless a callback is None or callable, and not the class ProgressBar."""
    if callback is ProgressBar:
        raise UsageError(f"{name}: {CLASS_GIVEN}")
    if callback is not None and not callable(callback):
        raise UsageError(f"{name} must be a function or None, not {type(callback).__name__}")


def _is_report(progress: object) -> bool:
    return hasattr(progress, "frames_done") or hasattr(progress, "steps_per_second")


def notebook_bar() -> Show | None:
    """Return a bar in the output of the notebook cell; None outside of notebooks."""
    shell = sys.modules.get("IPython")
    kernel = shell.get_ipython() if shell is not None else None
    if kernel is None or not hasattr(kernel, "kernel"):
        return None
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)

    def show(done: int, total: int, text: str) -> None:
        bar = f'<progress value="{done}" max="{max(1, total)}" style="width: 12em"></progress>'
        handle.update(HTML(f"{bar} <code>{html.escape(text)}</code>"))

    return show


@contextmanager
def stderr_bar(plain_seconds: float = PLAIN_SECONDS) -> Iterator[Show]:
    """Show a bar on a terminal; otherwise print a line every `plain_seconds` and at the end."""
    if not sys.stderr.isatty():
        yield _plain_lines(plain_seconds)
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=BAR_WIDTH), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, description=text)

        yield update


def _plain_lines(seconds: float) -> Show:
    last = time.perf_counter()

    def line(done: int, total: int, text: str) -> None:
        nonlocal last
        if done == total or time.perf_counter() - last >= seconds:
            last = time.perf_counter()
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    return line


def duration(seconds: float) -> str:
    """Format seconds, such as 4.2s, 3m05s, 2h10m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def show_count(what: str, unit: str, show: Show) -> Count:
    """Return a callback that shows the number of finished units, the rate and the time left."""
    first: tuple[float, int] | None = None

    def update(done: int, total: int | None) -> None:
        nonlocal first
        now = time.perf_counter()
        first = first or (now, done)
        speed = ""
        if done > first[1]:
            rate = (done - first[1]) / max(now - first[0], 1e-9)
            speed = f"  {rate:.1f} {unit}s/s"
            if total is not None:
                speed += f"  {duration((total - done) / rate)} left"
        count = done if total is None else f"{done}/{total}"
        most = done + 1 if total is None else total  # an unknown total must not fill the bar up
        show(done, most, f"{what} {unit} {count}{speed}".lstrip())

    return update


def show_fit(show: Show) -> Callable[[Progress], None]:
    """Return a callback that shows the steps, the rate, the PSNR and the time left of a fit."""

    def update(p: Progress) -> None:
        if math.isnan(p.psnr):  # a phase without a fit, such as the frames of a restoration
            pace, left = f"{p.steps_per_second:.1f}/s", duration(p.seconds_left)
            show(p.step, p.steps, f"{p.phase} {p.step}/{p.steps}  {pace}  {left} left")
            return
        rate = f"{p.steps_per_second:.1f} steps/s"
        if p.steps_per_second < 1:
            rate = f"{1 / p.steps_per_second:.1f} s/step"
        text = (
            f"{p.phase} step {p.step}/{p.steps}  epoch {p.epoch:.1f}  {rate}  "
            f"PSNR {p.psnr:.2f} dB  {duration(p.seconds_left)} left"
        )
        show(p.step, p.steps, text)

    return update


def show_segments(show: Show) -> Callable[[SegmentsProgress], None]:
    """Return a callback that shows the finished segments, the running fits and the time left."""

    def update(p: SegmentsProgress) -> None:
        running = "  ".join(
            f"#{index} {100 * fit.step // max(1, fit.steps)}% {fit.psnr:.2f} dB"
            for index, fit in sorted(p.running.items())
        )
        waiting = p.known - p.done - len(p.running)
        total = p.expected_frames or p.frames
        parts = [f"segments {p.done}/{p.known}{'' if p.whole else '+'} done", running]
        if p.whole or p.expected_frames:
            parts.insert(1, f"{int(100 * p.frames_done / max(1, total))}%")
        parts += [f"{waiting} waiting"] if waiting > 0 else []
        parts += [] if p.seconds_left is None else [f"{duration(p.seconds_left)} left"]
        unknown = 0 if p.whole else 1  # more segments may follow, so the bar must not fill up
        show(int(p.frames_done), total + unknown, "  ".join(filter(None, parts)))

    return update

"""What people see (stderr) and what programs read (stdout)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from nervkit.errors import UsageError

if TYPE_CHECKING:
    from nervkit.encoding.run import SegmentsProgress
    from nervkit.fitting.progress import Progress

Show = Callable[[int, int, str], None]  # (done, total, text)
Count = Callable[[int, int], None]  # (done, total)
PLAIN_SECONDS = 10.0  # between progress lines where there is no terminal
VERBOSE_PLAIN_SECONDS = 1.0


class Voice:
    """How much is said on stderr.

    Attributes:
        quiet: nothing but what went wrong.
        verbose: also what helps to find out why.
    """

    def __init__(self) -> None:
        self.quiet = self.verbose = False

    def choose(self, quiet: bool, verbose: bool) -> None:
        """As a command's options say; without any, it stays as it is. Raises UsageError."""
        if quiet and verbose:
            raise UsageError("--quiet and --verbose are opposites; give one")
        if quiet or verbose:
            self.quiet, self.verbose = quiet, verbose


#: that of the running command
voice = Voice()


def say(text: str) -> None:
    """A line for people who want to know how it goes, on stderr."""
    if not voice.quiet:
        complain(text)


def complain(text: str) -> None:
    """A line for people in any case, on stderr. Control characters, as a file's name may have, are
    escaped."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def emit(values: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(values, allow_nan=False), flush=True)  # noqa: T201


class Report(Protocol):
    """What a command made."""

    @property
    def notes(self) -> Sequence[str]:
        """One line for everything that was assumed, changed or lost."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""


def tell(report: Report, json: bool) -> None:
    """The notes of a report as lines, and all of it as one JSON object where that was asked for."""
    for note in report.notes:
        say(f"note: {note}")
    if json:
        emit(report.to_dict())


def duration(seconds: float) -> str:
    """Such as 4.2s, 3m05s, 2h10m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def roughly(seconds: float) -> str:
    """Such as 8 s, 40 s, 3 min, 2.5 h: of what is not known better."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def sized(count: int) -> str:
    """Bytes, such as 6.12 kB, 120 kB, 1.25 MB."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * scale:  # 999.6 kB is 1 MB
            return f"{float(f'{count / scale:.3g}'):g} {unit}"
    return f"{count} bytes"


def counted(count: int, noun: str) -> str:
    """Such as "1 frame" or "2,000 frames"."""
    return f"{count:,} {noun}" + "s" * (count != 1)


@contextmanager
def counting(what: str) -> Iterator[Count]:
    """A progress display for (done, total)."""
    with _display() as show:
        yield _counted(what, "frame", show)


@contextmanager
def stages(**units: str) -> Iterator[Callable[[str, int, int], None]]:
    """A progress display for (stage, done, total), given what each stage counts."""
    with _display() as show:
        counts = {stage: _counted(stage, unit, show) for stage, unit in units.items()}
        yield lambda stage, done, total: counts[stage](done, total)


@contextmanager
def fitting(
    position: Callable[[], str] = lambda: "",
) -> Iterator[tuple[Callable[[Progress], None], Callable[[SegmentsProgress], None]]]:
    """A progress display for the fit of one segment, or of several. `position` gives the place of
    the video among others, such as "[2/5] "."""
    with _display() as show:

        def placed(done: int, total: int, text: str) -> None:
            show(done, total, position() + text)

        yield _fitted(placed), _fitted_segments(placed)


@contextmanager
def following_all(
    what: str,
) -> Iterator[tuple[Count, Callable[[Progress], None], Count]]:
    """A progress display for a search, a fit, and the frames that are made after it."""
    with _display() as show:
        yield _counted("search", "step", show), _fitted(show), _counted(what, "frame", show)


def _counted(what: str, unit: str, show: Show) -> Count:
    first: tuple[float, int] | None = None

    def update(done: int, total: int) -> None:
        nonlocal first
        now = time.perf_counter()
        first = first or (now, done)
        pace = ""
        if done > first[1]:
            rate = (done - first[1]) / max(now - first[0], 1e-9)
            pace = f"  {rate:.1f} {unit}s/s  {duration((total - done) / rate)} left"
        show(done, total, f"{what} {unit} {done}/{total}{pace}")

    return update


def _fitted(show: Show) -> Callable[[Progress], None]:
    def update(p: Progress) -> None:
        rate = f"{p.steps_per_second:.1f} steps/s"
        if p.steps_per_second < 1:
            rate = f"{1 / p.steps_per_second:.1f} s/step"
        show(
            p.step,
            p.steps,
            f"{p.phase} step {p.step}/{p.steps}  epoch {p.epoch:.1f}  {rate}  "
            f"PSNR {p.psnr:.2f} dB  {duration(p.seconds_left)} left",
        )

    return update


def _fitted_segments(show: Show) -> Callable[[SegmentsProgress], None]:
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
        ahead = 0 if p.whole else 1  # at least: only the end of all is the end
        show(int(p.frames_done), total + ahead, "  ".join(filter(None, parts)))

    return update


@contextmanager
def _display() -> Iterator[Show]:
    """A bar on a terminal; plain lines, now and then and at the end, elsewhere."""
    if voice.quiet:
        yield lambda done, total, text: None
        return
    if not sys.stderr.isatty():
        last, pause = time.perf_counter(), VERBOSE_PLAIN_SECONDS if voice.verbose else PLAIN_SECONDS

        def line(done: int, total: int, text: str) -> None:
            nonlocal last
            if done == total or time.perf_counter() - last >= pause:
                last = time.perf_counter()
                say(text)

        yield line
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, description=text)

        yield update

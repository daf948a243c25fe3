"""Console output: messages and progress on stderr, JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from nervkit.errors import UsageError
from nervkit.progress import (
    PLAIN_SECONDS,
    Count,
    Show,
    show_count,
    show_fit,
    show_segments,
    stderr_bar,
)

if TYPE_CHECKING:
    from nervkit.encoding.run import SegmentsProgress
    from nervkit.fitting.progress import Progress

VERBOSE_PLAIN_SECONDS = 1.0  # between two progress lines in a log


class Verbosity:
    """The verbosity on stderr.

    Attributes:
        quiet: print only errors.
        verbose: print also versions, frequent progress and tracebacks.
    """

    def __init__(self) -> None:
        self.quiet = self.verbose = False

    def choose(self, quiet: bool, verbose: bool) -> None:
        """Apply the options of a command, if any is given. Raises UsageError if both are."""
        if quiet and verbose:
            raise UsageError("--quiet and --verbose exclude each other; give one")
        if quiet or verbose:
            self.quiet, self.verbose = quiet, verbose


#: verbosity of the running command
voice = Verbosity()


def say(text: str) -> None:
    """Print an informational line on stderr, unless --quiet is set."""
    if not voice.quiet:
        complain(text)


def complain(text: str) -> None:
    """Print a line on stderr. Escape control characters, which file names may contain."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    # One write: a signal's thread may print its own line at the same time.
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def emit(values: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(values, allow_nan=False), flush=True)  # noqa: T201


class Report(Protocol):
    """The result of a command."""

    @property
    def notes(self) -> Sequence[str]:
        """One line for each assumption, change and loss."""

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes, JSON-ready."""


def print_report(report: Report, json: bool) -> None:
    """Print the notes of a report, and with `json` the report as one JSON object."""
    for note in report.notes:
        say(f"note: {note}")
    if json:
        emit(report.to_dict())


def approximate_duration(seconds: float) -> str:
    """Format an estimated duration, such as 8 s, 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_size(count: int) -> str:
    """Format bytes, such as 6.12 kB, 120 kB, 1.25 MB."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * scale:  # 999.6 kB is 1 MB
            return f"{float(f'{count / scale:.3g}'):g} {unit}"
    return f"{count} bytes"


def count_noun(count: int, noun: str) -> str:
    """Format a number with its noun, such as "1 frame" or "2,000 frames"."""
    return f"{count:,} {noun}" + "s" * (count != 1)


@contextmanager
def counting(what: str) -> Iterator[Count]:
    """Show progress: yield a callback of (done, total)."""
    with _display() as show:
        yield show_count(what, "frame", show)


@contextmanager
def stages(**units: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show progress of stages, given the unit of each: yield a callback of (stage, done, total)."""
    with _display() as show:
        counts = {stage: show_count(stage, unit, show) for stage, unit in units.items()}
        yield lambda stage, done, total: counts[stage](done, total)


@contextmanager
def fitting(
    position: Callable[[], str] = lambda: "",
) -> Iterator[tuple[Callable[[Progress], None], Callable[[SegmentsProgress], None]]]:
    """Show progress of fits: yield callbacks for one segment and for several. `position` returns a
    prefix for one of many videos, such as "[2/5] "."""
    with _display() as show:

        def show_with_position(done: int, total: int, text: str) -> None:
            show(done, total, position() + text)

        yield show_fit(show_with_position), show_segments(show_with_position)


@contextmanager
def following_all(
    what: str,
) -> Iterator[tuple[Count, Callable[[Progress], None], Count]]:
    """Show progress of a restoration: yield callbacks for its search, its fit and its frames."""
    with _display() as show:
        yield (
            show_count("search", "step", show),
            show_fit(show),
            show_count(what, "frame", show),
        )


@contextmanager
def _display() -> Iterator[Show]:
    """Show a bar on a terminal or plain lines in a log; with --quiet, nothing."""
    if voice.quiet:
        yield lambda done, total, text: None
        return
    with stderr_bar(VERBOSE_PLAIN_SECONDS if voice.verbose else PLAIN_SECONDS) as show:
        yield show

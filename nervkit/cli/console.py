"""What people see (stderr) and what programs read (stdout)."""

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
    counted_text,
    fit_text,
    segments_text,
    shown_on_stderr,
)

if TYPE_CHECKING:
    from nervkit.encoding.run import SegmentsProgress
    from nervkit.fitting.progress import Progress

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
        yield counted_text(what, "frame", show)


@contextmanager
def stages(**units: str) -> Iterator[Callable[[str, int, int], None]]:
    """A progress display for (stage, done, total), given what each stage counts."""
    with _display() as show:
        counts = {stage: counted_text(stage, unit, show) for stage, unit in units.items()}
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

        yield fit_text(placed), segments_text(placed)


@contextmanager
def following_all(
    what: str,
) -> Iterator[tuple[Count, Callable[[Progress], None], Count]]:
    """A progress display for a search, a fit, and the frames that are made after it."""
    with _display() as show:
        yield (
            counted_text("search", "step", show),
            fit_text(show),
            counted_text(what, "frame", show),
        )


@contextmanager
def _display() -> Iterator[Show]:
    """A bar on a terminal; plain lines, now and then and at the end, elsewhere."""
    if voice.quiet:
        yield lambda done, total, text: None
        return
    with shown_on_stderr(VERBOSE_PLAIN_SECONDS if voice.verbose else PLAIN_SECONDS) as show:
        yield show

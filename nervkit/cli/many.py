"""Encode several videos in one command: their output files and their outcomes."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nervkit.cli.console import complain, count_noun, say
from nervkit.cli.interruption import SignalResponse, interruption, with_resume_hint
from nervkit.errors import Interrupted, NervError, SourceError, UsageError

if TYPE_CHECKING:
    from nervkit.encoder import Encoder
    from nervkit.encoding.report import EncodeReport

MOVIES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"),
    *(".wmv", ".flv", ".ogv", ".3gp", ".mxf", ".y4m"),
)
STATUSES = ("encoded", "skipped", "failed")


@dataclass(frozen=True)
class Video:
    """A source and its output. `position` is a prefix such as "[2/5] ", or empty."""

    source: str
    output: Path
    position: str = ""


def videos_of(sources: Sequence[str], output: str) -> list[Video] | None:
    """Return the videos of a command with several sources, a folder of movies, or a folder as its
    output. Return None for one source and one output file.

    Each video becomes a file of its own name in the folder `output`. Videos whose names differ only
    in their suffix keep it: a.mp4.nerv. Raises UsageError, and SourceError if a pattern matches
    nothing.
    """
    folder = output.endswith(("/", os.sep)) or Path(output).is_dir()
    if not folder and len(sources) == 1 and not _movies(sources[0], folder):
        return None
    paths = [path for source in sources for path in _expand(source, folder or len(sources) > 1)]
    if Path(output).suffix.lower() == ".nerv" and not folder:
        raise UsageError(
            f"{output}: is one file for {count_noun(len(paths), 'video')}; give a folder, such as "
            "-o out/"
        )
    if "-" in paths:
        raise UsageError("standard input cannot be one of several sources; give it alone")
    stems = Counter(Path(path).stem for path in paths)
    videos = []
    for number, path in enumerate(map(Path, paths), start=1):
        name = path.stem if stems[path.stem] == 1 else path.name  # a.mp4 and a.webm
        place = f"[{number}/{len(paths)}] "
        videos.append(Video(str(path), Path(output) / f"{name}.nerv", place))
    _check_distinct(videos)
    return videos


def _expand(source: str, folder_output: bool) -> list[str]:
    """Return the sources of one argument: the movies of a folder, or the files of a pattern that
    the shell did not expand."""
    if movies := _movies(source, folder_output):
        return movies
    if not Path(source).exists() and glob.has_magic(source):
        found = sorted(glob.glob(source))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not found:
            raise SourceError(f"{source}: no file matches this pattern")
        return found
    return [source]


def _movies(source: str, folder_output: bool) -> list[str]:
    """Return the movies of a folder, sorted by name. A folder that also has images is one video,
    unless the output is a folder."""
    from nervkit.video.numbered import IMAGE_SUFFIXES

    if not Path(source).is_dir():
        return []
    files = sorted(path for path in Path(source).iterdir() if path.is_file())
    movies = [str(path) for path in files if path.suffix.lower() in MOVIES]
    images = any(path.suffix.lower() in IMAGE_SUFFIXES for path in files)
    return movies if folder_output or not images else []


def _check_distinct(videos: list[Video]) -> None:
    """Raise UsageError if two sources have the same output."""
    sources = defaultdict(list)
    for video in videos:
        sources[video.output].append(video.source)
    for output, same in sources.items():
        if len(same) > 1:
            raise UsageError(
                f"{same[0]} and {same[1]} would both become {output}; encode them into different "
                "folders"
            )


@dataclass(frozen=True)
class Outcome:
    """The outcome of one video.

    Attributes:
        video: its source and output.
        status: "encoded", "skipped" or "failed".
        report: the report, if the video was encoded.
        error: the reason, if it failed.
    """

    video: Video
    status: str
    report: EncodeReport | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome, JSON-ready."""
        report = None if self.report is None else self.report.to_dict()
        paths = {"source": self.video.source, "output": str(self.video.output)}
        return {**paths, "status": self.status, "report": report, "error": self.error}


def encode_all(
    videos: Sequence[Video],
    encoder: Encoder,
    keep_finished: bool,
    encode: Callable[[Video], EncodeReport],
) -> list[Outcome]:
    """Encode one video after another. Print each failure and go on with the next video.

    Args:
        videos: the videos.
        encoder: the encoder of all videos.
        keep_finished: whether to skip videos whose output exists.
        encode: encodes one video.

    Raises Interrupted when the user stops the command.
    """
    outcomes = []
    for video in videos:
        interruption.manner = SignalResponse.END
        say(f"{video.position}{video.source} -> {video.output}")
        try:
            if keep_finished and video.output.exists():
                outcomes.append(_skip(video, encoder))
            else:
                outcomes.append(Outcome(video, "encoded", encode(video)))
        except Interrupted as error:
            raise with_resume_hint(error) from error
        except NervError as error:
            reason = " ".join(str(error).split())
            message = reason if video.source in reason else f"{video.source}: {reason}"
            outcomes.append(Outcome(video, "failed", error=message))
            say(f"failed: {message}")
    return outcomes


def _skip(video: Video, encoder: Encoder) -> Outcome:
    """Skip a finished video. Raises SourceError or FormatError if its output is no .nerv file."""
    from nervkit.container.file import NervFile

    try:
        with NervFile(video.output) as file:
            others = encoder.differing_settings(file.header)
    except NervError as error:
        raise type(error)(f"{error}; -y replaces it") from error
    source = Path(video.source)
    older = source.exists() and source.stat().st_mtime > video.output.stat().st_mtime
    why = "is older than its source, and kept" if older else "exists already, and is kept"
    made = f"; it was made with {', '.join(others)}" if others else ""
    say(f"skipped: {video.output} {why}{made} (-y replaces it)")
    return Outcome(video, "skipped")


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print the numbers of encoded, skipped and failed videos, and the reason of each failure.
    Raises NervError if a video failed."""
    counts = {status: sum(o.status == status for o in outcomes) for status in STATUSES}
    say(
        f"{count_noun(len(outcomes), 'video')}: " + ", ".join(f"{n} {s}" for s, n in counts.items())
    )
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        complain(f"failed: {outcome.error}")
    if failed:
        raise NervError(
            f"{len(failed)} of {count_noun(len(outcomes), 'video')} failed; once their causes are "
            "mended, the same command encodes these and skips the finished ones"
        )

"""Many videos in one command: which file each becomes, and what became of each."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nervkit.cli.console import complain, counted, say
from nervkit.cli.interruption import Manner, going_on, interruption
from nervkit.errors import Interrupted, NervError, SourceError, UsageError

if TYPE_CHECKING:
    from nervkit.encoding.report import EncodeReport

MOVIES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"),
    *(".wmv", ".flv", ".ogv", ".3gp", ".mxf", ".y4m"),
)
STATUSES = ("encoded", "skipped", "failed")


@dataclass(frozen=True)
class Video:
    """A source, and the file that it becomes. `position` is such as "[2/5] ", or empty."""

    source: str
    output: Path
    position: str = ""


def videos_of(sources: Sequence[str], output: str) -> list[Video] | None:
    """The videos of a command that names many: several sources, a folder of movies, or an output
    that is a folder. None if it names one source and one file.

    Each becomes a file of its own name in the folder `output`, which is made where it is missing.
    Raises UsageError, SourceError, OutputError.
    """
    folder = output.endswith(("/", os.sep)) or Path(output).is_dir()
    if not folder and len(sources) == 1 and not _movies(sources[0], folder):
        return None
    named = [path for source in sources for path in _expanded(source, folder or len(sources) > 1)]
    if Path(output).suffix.lower() == ".nerv" and not folder:
        raise UsageError(
            f"{output}: is one file, and {counted(len(named), 'video')} are to be encoded; give a "
            "folder, such as -o out/"
        )
    if "-" in named:
        raise UsageError("standard input cannot be one of many sources; give it alone")
    videos = [
        Video(name, Path(output) / f"{Path(name).stem}.nerv", f"[{place}/{len(named)}] ")
        for place, name in enumerate(named, start=1)
    ]
    _check_distinct(videos)
    return videos


def _expanded(source: str, folder_output: bool) -> list[str]:
    """The sources that an argument names: movies of a folder, or files of a pattern that the shell
    left alone."""
    if movies := _movies(source, folder_output):
        return movies
    if not Path(source).exists() and glob.has_magic(source):
        found = sorted(glob.glob(source))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not found:
            raise SourceError(f"{source}: no such files")
        return found
    return [source]


def _movies(source: str, folder_output: bool) -> list[str]:
    """The movies of a folder, by name. A folder with images is one video, unless the output is a
    folder."""
    from nervkit.video.numbered import IMAGE_SUFFIXES

    if not Path(source).is_dir():
        return []
    files = sorted(path for path in Path(source).iterdir() if path.is_file())
    movies = [str(path) for path in files if path.suffix.lower() in MOVIES]
    images = any(path.suffix.lower() in IMAGE_SUFFIXES for path in files)
    return movies if folder_output or not images else []


def _check_distinct(videos: list[Video]) -> None:
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
    """What became of one video.

    Attributes:
        video: its source and output.
        status: "encoded", "skipped" or "failed".
        report: of an encoded one.
        error: why another one failed.
    """

    video: Video
    status: str
    report: EncodeReport | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        made = None if self.report is None else self.report.to_dict()
        names = {"source": self.video.source, "output": str(self.video.output)}
        return {**names, "status": self.status, "report": made, "error": self.error}


def encode_all(
    videos: Sequence[Video],
    keep_finished: bool,
    encode: Callable[[Video], EncodeReport],
) -> list[Outcome]:
    """Encode one video after another. A failure is printed, and the next video follows.

    Args:
        videos: what to encode.
        keep_finished: whether an output that exists is left alone.
        encode: encodes one.

    Raises Interrupted when the user stops the command, and OutputError if the folder cannot be
    made.
    """
    outcomes = []
    for video in videos:
        interruption.manner = Manner.END
        say(f"{video.position}{video.source} -> {video.output}")
        try:
            if keep_finished and video.output.exists():
                outcomes.append(_skipped(video))
            else:
                outcomes.append(Outcome(video, "encoded", encode(video)))
        except Interrupted as error:
            raise going_on(error) from error
        except NervError as error:
            reason = " ".join(str(error).split())
            named = reason if video.source in reason else f"{video.source}: {reason}"
            outcomes.append(Outcome(video, "failed", error=named))
            say(f"failed: {named}")
    return outcomes


def _skipped(video: Video) -> Outcome:
    """Raises SourceError and FormatError if the output is no .nerv file."""
    from nervkit.container.file import NervFile

    NervFile(video.output).close()
    source = Path(video.source)
    older = source.exists() and source.stat().st_mtime > video.output.stat().st_mtime
    why = "is older than its source, and kept" if older else "exists already, and is kept"
    say(f"skipped: {video.output} {why} (-y replaces it)")
    return Outcome(video, "skipped")


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print how many videos were encoded, skipped and failed. Raises NervError if any failed, with
    the reasons above it."""
    counts = {status: sum(o.status == status for o in outcomes) for status in STATUSES}
    say(f"{counted(len(outcomes), 'video')}: " + ", ".join(f"{n} {s}" for s, n in counts.items()))
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        complain(f"failed: {outcome.error}")
    if failed:
        raise NervError(
            f"{len(failed)} of {counted(len(outcomes), 'video')} failed; the same command tries "
            "them again and skips the finished ones"
        )

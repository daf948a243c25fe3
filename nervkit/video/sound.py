"""The sound of a video alone, copied to a file of its own."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from nervkit.errors import OutputError, UsageError
from nervkit.lock import locked
from nervkit.media.track import Track
from nervkit.output import check_output, is_pipe, linked, replacing
from nervkit.video.clocks import movie_clock
from nervkit.video.labels import Labels
from nervkit.video.movies import MovieOptions
from nervkit.video.muxing import add_to_movie, movie_target
from nervkit.video.stream import Stream
from nervkit.video.tracks import decoded_at, over_at, track_packets

SOUND_SUFFIXES = (".m4a", ".mka")


def is_sound(output: str) -> bool:
    """Whether an output of this name holds sound alone."""
    return Path(output).suffix.lower() in SOUND_SUFFIXES


def check_sound_destination(
    output: str, options: MovieOptions, overwrite: bool, source: object = None
) -> None:
    """Raise, before any work, where `output` cannot be written, would replace the source, or does
    not go with `options`."""
    if options != MovieOptions():
        raise UsageError(f"{output}: sound is copied; --codec, --crf and --pixel-format are no use")
    path = Path(output)
    if is_pipe(path):
        raise UsageError(f"{output}: sound needs a file, no pipe")
    check_output(path, overwrite, source)


def write_sound(output: str, stream: Stream) -> list[str]:
    """Copy the sound of `stream` to `output`, one of SOUND_SUFFIXES, with its tags and chapters.

    Returns:
        Notes: one line for everything that the output could not hold.

    Raises:
        OutputError: there is no sound that the output can hold, or it cannot be written.
    """
    path = Path(output)
    with locked(linked(path)), replacing(path) as partial:
        return _mux(path, partial, stream)


def _mux(output: Path, partial: Path, stream: Stream) -> list[str]:
    suffix = output.suffix.lower()
    tracks = [(t, track_packets(t, stream.window)) for t in stream.tracks if t.kind == "audio"]
    heard = [packets for _, packets in tracks if packets]
    if not heard:
        raise OutputError(f"{output}: there is no sound to write")
    labels = Labels.of(stream, suffix, max(map(over_at, heard)))
    notes: list[str] = []
    if suffix == ".m4a":
        labels, notes = labels.as_mp4_counts(stream.timing)
    kept: list[Track] = []
    copied: list[av.Packet] = []
    try:
        target, format = movie_target(partial, suffix, heard)
        muxing = _mp4_options(stream, labels) if suffix == ".m4a" else {}
        with av.open(target, "w", format=format, options=muxing) as container:
            for track, packets in tracks:
                added, said = add_to_movie(container, track, packets, output)
                notes += said
                if added:
                    kept.append(track)
                    copied += added
            if not kept:
                raise OutputError(f"{output}: {'; '.join(notes)}")
            copied.sort(key=decoded_at)
            if suffix == ".mka":
                # The muxer lets the earliest packet begin at 0: with priming, AAC begins before.
                labels = labels.later(max(Fraction(0), -decoded_at(copied[0])))
            notes += labels.add(container)
            for packet in copied:
                container.mux(packet)
        return notes + labels.lost(partial, kept, first=0)
    except (av.error.FFmpegError, ValueError) as error:
        raise OutputError(f"{output}: writing sound failed: {error}") from error


def _mp4_options(stream: Stream, labels: Labels) -> dict[str, str]:
    """Options of the muxer, by which it keeps where each track begins."""
    clocks = [track.time_base.denominator for track in stream.tracks]
    return {
        "movie_timescale": str(movie_clock(clocks, 1)),
        "movflags": "+faststart" + ("+use_metadata_tags" if labels.need_free_tags else ""),
    }

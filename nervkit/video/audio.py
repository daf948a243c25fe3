"""Output of audio tracks only, copied without transcoding."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from nervkit.errors import OutputError, UsageError
from nervkit.keywords import option
from nervkit.lock import locked
from nervkit.media.track import Track
from nervkit.output import check_output, is_pipe, link_target, replacing
from nervkit.video.clocks import movie_clock
from nervkit.video.labels import Labels
from nervkit.video.movies import MovieOptions
from nervkit.video.muxing import add_to_movie, movie_target
from nervkit.video.packets import Packet, decode_time, end_time
from nervkit.video.stream import Stream
from nervkit.video.tracks import track_packets

SOUND_SUFFIXES = (".m4a", ".mka")


def is_audio(output: str) -> bool:
    """Whether an output of this name is an audio file."""
    return Path(output).suffix.lower() in SOUND_SUFFIXES


def check_sound_destination(
    output: str, options: MovieOptions, overwrite: bool, source: object = None
) -> None:
    """Raise, before any work, if `output` cannot be written, would replace the source, or does not
    fit `options`."""
    if options != MovieOptions():
        raise UsageError(
            f"{output}: audio is copied; "
            f"{option('codec')}, {option('crf')} and {option('pixel_format')} do not apply"
        )
    path = Path(output)
    if is_pipe(path):
        raise UsageError(f"{output}: audio output must be a file, not a pipe")
    check_output(path, overwrite, source)


def write_audio(output: str, stream: Stream) -> list[str]:
    """Copy the audio tracks of `stream` to `output` (SOUND_SUFFIXES), with tags and chapters.

    Returns:
        Notes: one line for everything that the output cannot hold.

    Raises:
        OutputError: no audio track fits into the output, or it cannot be written.
    """
    path = Path(output)
    with locked(link_target(path)), replacing(path) as partial:
        return _mux(path, partial, stream)


def _mux(output: Path, partial: Path, stream: Stream) -> list[str]:
    suffix = output.suffix.lower()
    tracks = [(t, track_packets(t, stream.window)) for t in stream.tracks if t.kind == "audio"]
    heard = [packets for _, packets in tracks if packets]
    if not heard:
        raise OutputError(f"{output}: there is no audio to write")
    labels = Labels.of(stream, suffix, max(map(end_time, heard)))
    notes: list[str] = []
    if suffix == ".m4a":
        labels, notes = labels.as_mp4_counts(stream.timing)
    kept: list[Track] = []
    copied: list[Packet] = []
    try:
        target, format = movie_target(partial, suffix, heard)
        muxing = _mp4_options(stream, labels) if suffix == ".m4a" else {}
        with av.open(target, "w", format=format, options=muxing) as container:
            for track, packets in tracks:
                added, changes = add_to_movie(container, track, packets, output)
                notes += changes
                if added:
                    kept.append(track)
                    copied += added
            if not kept:
                raise OutputError(f"{output}: {'; '.join(notes)}")
            copied.sort(key=decode_time)
            if suffix == ".mka":
                # The muxer shifts all packets if one is before 0, such as the priming of AAC.
                labels = labels.later(max(Fraction(0), -decode_time(copied[0])))
            notes += labels.add(container)
            for packet in copied:
                container.mux(packet)
        return notes + labels.lost(partial, kept, first=0)
    except (av.error.FFmpegError, ValueError) as error:
        raise OutputError(f"{output}: writing audio failed: {error}") from error


def _mp4_options(stream: Stream, labels: Labels) -> dict[str, str]:
    """Return muxer options that preserve the start time of each track."""
    clocks = [track.time_base.denominator for track in stream.tracks]
    return {
        "movie_timescale": str(movie_clock(clocks, 1)),
        "movflags": "+faststart" + ("+use_metadata_tags" if labels.need_free_tags else ""),
    }

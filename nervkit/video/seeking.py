"""To the key frame before a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import av

#: how many seconds before the picture are tried, one after another: a demuxer may land behind the
#: key frame that comes before it
DISTANCES = (0, 1, 4, 16, 64)


def seek_key_frame(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    demux: Callable[[], Iterator[av.Packet]],
    pts: int,
) -> Iterator[av.Packet] | None:
    """The video packets (those that `demux` gives after a seek) from a key frame on that is shown
    at `pts` (in the stream's time base), or before. None where none is found.

    What is decoded before a key frame and shown after it needs the pictures before. So the key
    frame's own time counts, which in MP4 may be later than the index's.
    """
    for distance in DISTANCES:
        try:
            container.seek(pts - round(distance / stream.time_base), stream=stream)
        except (av.error.FFmpegError, OSError):
            return None
        packets = demux()
        first = next((packet for packet in packets if packet.is_keyframe), None)
        if first is None:
            continue
        shown = first.dts if first.pts is None else first.pts
        if shown is not None and shown <= pts:
            return chain([first], packets)
    return None

"""Seeking to the keyframe before a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import av

from nervkit.video.packets import Packet

#: seconds before the picture at which to seek, tried in this order: a demuxer may land after the
#: keyframe that precedes it
DISTANCES = (0, 1, 4, 16, 64)


def seek_key_frame(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    demux: Callable[[], Iterator[Packet]],
    pts: int,
) -> Iterator[Packet] | None:
    """Return the video packets (`demux` yields them after a seek) from a keyframe on whose
    presentation time is at most `pts`, in the stream's time base; None if there is none.

    Leading pictures, which precede a keyframe in decoding order and follow it in presentation
    order, need earlier pictures. So the keyframe's presentation time counts, which in MP4 may be
    later than the time in the index.
    """
    assert stream.time_base is not None
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

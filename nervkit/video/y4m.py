"""YUV4MPEG2 (y4m) output, which can be piped.

PyAV's yuv4mpegpipe muxer would drop the pixel shape: it takes the stream's sample_aspect_ratio,
which PyAV cannot set, and writes A0:0.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from nervkit.errors import UsageError
from nervkit.video.clocks import plain_ratio
from nervkit.video.movies import MovieOptions
from nervkit.video.planes import DEFAULT_MATRIX, convert_from_rgb, yuv_colour
from nervkit.video.stream import Stream

Y4M_FORMATS = ("yuv420p", "yuv422p", "yuv444p")


def y4m_format(options: MovieOptions) -> str:
    """Return the pixel format of a y4m output. Raises UsageError for an unsupported one."""
    pixel_format = options.pixel_format or "yuv420p"
    if pixel_format not in Y4M_FORMATS:
        raise UsageError(f"y4m supports {', '.join(Y4M_FORMATS)}, not {pixel_format}")
    return pixel_format


def write_y4m(file: BinaryIO, stream: Stream, options: MovieOptions) -> list[str]:
    """Write frames as YUV4MPEG2 at the mean frame rate, by default as 4:2:0. Return notes."""
    pixel_format = y4m_format(options)
    colour = yuv_colour(stream.colour)
    layout = {"yuv420p": "420mpeg2", "yuv422p": "422", "yuv444p": "444"}[pixel_format]
    fps, ratio = plain_ratio(stream.timing.fps), plain_ratio(stream.sample_aspect_ratio)
    full = " XCOLORRANGE=FULL" if colour.rgb_range == "full" else " XCOLORRANGE=LIMITED"
    head = f"YUV4MPEG2 W{stream.width} H{stream.height} F{fps.numerator}:{fps.denominator} Ip"
    file.write(f"{head} A{ratio.numerator}:{ratio.denominator} C{layout}{full}\n".encode())
    for frame in stream.frames:
        file.write(b"FRAME\n")
        for plane in convert_from_rgb(frame, pixel_format, colour).planes:
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            file.write(rows[: plane.height, : plane.width].tobytes())
    file.flush()
    if colour.rgb_matrix == DEFAULT_MATRIX:
        return []
    matrix = colour.rgb_matrix
    return [f"y4m cannot hold the colour matrix {matrix}: most readers assume {DEFAULT_MATRIX}"]

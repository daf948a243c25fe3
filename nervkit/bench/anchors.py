"""The anchors: H.264, HEVC, AV1 and VVC through the ffmpeg binary.

The settings follow x265's manual (compare PSNR only with --tune psnr), the codecs' own advice, and
for the profile `paper` the NeRV and HNeRV papers' section on H.264 and HEVC.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from nervkit.errors import MissingDependencyError, NervError, UsageError
from nervkit.video.planes import Planes

#: longest keyframe interval of `strong`, in frames: the same for all, a multiple of VVC's GOP of 32
KEYFRAME_INTERVAL = 256
PROFILES = ("strong", "paper")


@dataclass(frozen=True)
class Anchor:
    """The settings of one encoder.

    Attributes:
        encoder: ffmpeg's name of the encoder.
        format: ffmpeg's name of the elementary stream.
        suffix: file suffix of the stream.
        quantizer: the option that sets the rate.
        ladder: default values of the quantizer, in equal steps.
        limits: smallest and largest value of the quantizer.
        profiles: options by profile. They turn off encoder information in the bitstream, which
            carries no picture data.
        interval: the option for the keyframe interval, with {} for the number of frames.
        bits: bit depth inside the codec.
        after: options that follow all others.
    """

    encoder: str
    format: str
    suffix: str
    quantizer: str
    ladder: tuple[int, ...]
    limits: tuple[int, int]
    profiles: dict[str, tuple[str, ...]]
    interval: tuple[str, ...] = ("-g", "{}")
    bits: int = 8
    after: tuple[str, ...] = field(default=())

    def rungs(self) -> list[int]:
        """Return the usable quantizer values, best quality first: the ladder, extended in its own
        steps to the limits."""
        low, high = self.limits
        step = self.ladder[1] - self.ladder[0]
        below = range(self.ladder[0] - step, low - 1, -step)
        above = range(self.ladder[-1] + step, high + 1, step)
        rungs = [*reversed(below), *self.ladder, *above]
        return rungs if rungs[-1] == high else [*rungs, high]

    def encode_arguments(
        self, profile: str, value: int, interval: int | None, frames: Frames, output: str
    ) -> list[str]:
        """Return ffmpeg's arguments that encode the raw planes `frames` to `output`.

        Args:
            profile: a key of `profiles`.
            value: of the quantizer.
            interval: the longest keyframe interval in frames; None: the profile's own.
        """
        longest = interval or (KEYFRAME_INTERVAL if profile == "strong" else None)
        keyframes = [part.format(longest) for part in self.interval] if longest else []
        pixel_format = ["-pix_fmt", "yuv420p10le"] if self.bits == 10 else []
        return [
            *frames.arguments(),
            *("-c:v", self.encoder, *self.profiles[profile], *pixel_format),
            *(f"-{self.quantizer}", str(value), *keyframes, *self.after),
            *("-f", self.format, "-y", output),
        ]


ANCHORS = {
    "x264": Anchor(
        "libx264",
        "h264",
        ".h264",
        "crf",
        (17, 22, 27, 32, 37),
        (0, 51),
        {
            "strong": ("-preset", "veryslow", "-tune", "psnr"),
            "paper": ("-preset", "medium", "-bf", "0"),
        },
        after=("-bsf:v", "filter_units=remove_types=6"),
    ),
    "x265": Anchor(
        "libx265",
        "hevc",
        ".h265",
        "crf",
        (17, 22, 27, 32, 37),
        (0, 51),
        {
            "strong": (
                *("-preset", "veryslow", "-tune", "psnr"),
                *("-x265-params", "info=0:log-level=error"),
            ),
            "paper": ("-preset", "medium", "-x265-params", "bframes=0:info=0:log-level=error"),
        },
    ),
    "svt-av1": Anchor(
        "libsvtav1",
        "obu",
        ".obu",
        "crf",
        (20, 27, 34, 41, 48, 55, 62),
        (1, 63),
        {"strong": ("-preset", "4", "-svtav1-params", "tune=1")},
    ),
    "libaom": Anchor(
        "libaom-av1",
        "obu",
        ".obu",
        "crf",
        (20, 27, 34, 41, 48, 55, 62),
        (0, 63),
        {"strong": ("-cpu-used", "3", "-b:v", "0", "-tune", "psnr", "-row-mt", "1")},
    ),
    "vvenc": Anchor(
        "libvvenc",
        "vvc",
        ".h266",
        "qp",
        (22, 27, 32, 37, 42),
        (0, 63),
        {"strong": ("-preset", "medium", "-qpa", "0")},
        # libvvenc in ffmpeg ignores -g and would insert a keyframe every second.
        interval=("-vvenc-params", "intraperiod={}"),
        after=("-bsf:v", "filter_units=remove_types=20"),  # access unit delimiters
        bits=10,
    ),
}


@dataclass(frozen=True)
class Frames:
    """A file of raw 8-bit yuv420p planes with even width and height."""

    path: Path
    width: int
    height: int
    fps: Fraction
    count: int

    def arguments(self) -> list[str]:
        """Return ffmpeg's arguments that read the file."""
        size = f"{self.width}x{self.height}"
        return [
            *("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", size),
            *("-r", str(self.fps), "-i", str(self.path)),
        ]

    def read(self) -> Iterator[Planes]:
        """Yield the planes of each frame."""
        with self.path.open("rb") as file:
            yield from _read_planes(file, self.width, self.height, 8)


class FFmpeg:
    """An ffmpeg binary: imageio-ffmpeg's, or another."""

    def __init__(self, path: str | None = None) -> None:
        """Ask the binary for its version, filters and encoders.

        Args:
            path: of the binary; None: imageio-ffmpeg's.

        Raises:
            UsageError: the program is not ffmpeg, or cannot be run.
            MissingDependencyError: there is no binary, or it lacks libvmaf.
        """
        if path is None:
            import imageio_ffmpeg  # type: ignore[import-untyped]

            try:
                path = imageio_ffmpeg.get_ffmpeg_exe()
            except RuntimeError as error:
                raise MissingDependencyError(
                    "imageio-ffmpeg has no binary for this machine; set --ffmpeg to one"
                ) from error
        self.path = path
        banner = self._ask("-version")
        found = re.match(r"ffmpeg version (\S+)", banner)
        if found is None:
            raise UsageError(f"{path}: not an ffmpeg binary; set --ffmpeg to one")
        self.version = found[1]
        if "libvmaf" not in self._ask("-filters").split():
            raise MissingDependencyError(
                f"{path}: has no libvmaf, which VMAF needs; set --ffmpeg to a build with libvmaf"
            )
        self._encoders = set(re.findall(r"^ V\S+ (\S+)", self._ask("-encoders"), re.MULTILINE))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line with these arguments."""
        return [self.path, "-nostdin", "-v", "error", *arguments]

    def require(self, anchor: Anchor) -> None:
        """Raise MissingDependencyError if this binary lacks the anchor's encoder."""
        if anchor.encoder not in self._encoders:
            raise MissingDependencyError(
                f"{self.path}: has no {anchor.encoder}; set --ffmpeg to a build with it, "
                "or leave this codec out of --codecs"
            )

    def _ask(self, question: str) -> str:
        try:
            answer = subprocess.run(
                [self.path, "-hide_banner" if question != "-version" else "-nostdin", question],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise UsageError(f"{self.path}: cannot be run as ffmpeg; check --ffmpeg") from error
        return answer.stdout.decode(errors="replace")


def decode_arguments(anchor: Anchor, stream: str, output: str, format: str) -> list[str]:
    """Return ffmpeg's arguments that decode all frames of an elementary stream, at the codec's own
    bit depth."""
    pixels = "yuv420p10le" if anchor.bits == 10 else "yuv420p"
    strict = ["-strict", "-1"] if anchor.bits == 10 and format == "yuv4mpegpipe" else []
    return [
        *("-f", anchor.format, "-i", stream, "-fps_mode", "passthrough"),
        *("-pix_fmt", pixels, *strict, "-f", format, "-y", output),
    ]


def decoded_planes(anchor: Anchor, raw: IO[bytes], frames: Frames) -> Iterator[Planes]:
    """Yield the frames that `decode_arguments` wrote as rawvideo, rounded to 8 bits.

    Raises:
        NervError: the number of frames differs from `frames.count`.
    """
    count = 0
    for planes in _read_planes(raw, frames.width, frames.height, anchor.bits):
        count += 1
        if count <= frames.count:
            yield planes
    if count != frames.count:
        raise NervError(f"{anchor.encoder}: decoded {count} of {frames.count} frames")


def _read_planes(raw: IO[bytes], width: int, height: int, bits: int) -> Iterator[Planes]:
    size = width * height * 3 // 2 * (2 if bits > 8 else 1)
    while len(data := raw.read(size)) == size:
        samples = np.frombuffer(data, np.uint8 if bits == 8 else "<u2")
        if bits > 8:
            half = 1 << (bits - 9)
            samples = np.minimum((samples + half) >> (bits - 8), 255).astype(np.uint8)
        yield Planes.from_samples(samples, width, height)

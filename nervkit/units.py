"""Parse times, rates, sizes and counts. Each function takes a text or the value itself. It raises
UsageError, which names the option, if the value is invalid."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from numbers import Integral, Real
from operator import or_
from typing import Any, TypeGuard

from nervkit.errors import UsageError
from nervkit.keywords import option

# A side that keeps the aspect ratio, or does so and is even, as in ffmpeg's scale filter.
KEEP_ASPECT, KEEP_ASPECT_EVEN = -1, -2
LONGEST_SIDE = 1 << 14  # pixels
LEAST_PSNR, MOST_PSNR = 10, 60  # dB
MOST_LOSS = 60.0  # dB
SLOWEST, FASTEST = Fraction(1, 1000), Fraction(1000)  # speed factors
PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def parse_seconds(text: str | float, name: str) -> Fraction:
    """Parse seconds: a number, "90s", "1.5m", "2h", "MM:SS" or "HH:MM:SS.s"."""
    units = {"": 1, "s": 1, "m": 60, "h": 3600}
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\d+/\d+)([smh]?)", str(text).strip())
    if match and not re.search(r"/0+$", match.group(1)):
        return Fraction(match.group(1)) * units[match.group(2)]
    if re.fullmatch(r"(\d+:){1,2}\d+(\.\d+)?", str(text).strip()):
        seconds = Fraction(0)
        for part in str(text).strip().split(":"):
            seconds = seconds * 60 + Fraction(part)
        return seconds
    raise UsageError(f"{name} must be a time such as 90, 1.5m or 01:30, not {text!r}")


def parse_rate(fps: str | float | Fraction) -> Fraction:
    """Parse a frame rate, such as 25, "59.94" or "30000/1001"."""
    try:
        rate = Fraction(str(fps)).limit_denominator(10_000)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 100_000:
        raise UsageError(
            f"{option('fps')} must be a positive number (up to 100000) or a fraction such as "
            "30000/1001, "
            f"not {fps!r}"
        )
    return rate


def parse_frames(frames: str | int | slice | None) -> tuple[int, int | None]:
    """Parse a range of frames into (first, stop): "a:b" with either end optional, a slice of step
    1, or the index of one frame."""
    if frames is None:
        return 0, None
    if isinstance(frames, slice):
        first, stop = frames.start or 0, frames.stop
        valid = frames.step in (None, 1) and first >= 0
    else:
        text = str(frames).strip()
        match = re.fullmatch(r"(\d*):(\d*)", text)
        valid = match is not None or re.fullmatch(r"\d+", text) is not None
        if match is not None:
            first, stop = int(match[1] or 0), int(match[2]) if match[2] else None
        else:
            first, stop = (int(text), int(text) + 1) if valid else (0, 0)
    if not valid or (stop is not None and stop <= first):
        raise UsageError(
            f"{option('frames')} must be a range a:b with 0 <= a < b, or one frame's number, not "
            f"{frames!r}"
        )
    return first, stop


def parse_size(size: str | tuple[int, int], name: str) -> tuple[int, int]:
    """Parse "WxH" or "W:H" into (width, height)."""
    parts = _sides(size)
    if len(parts) == 2 and all(map(_is_length, parts)):
        return int(parts[0]), int(parts[1])
    raise UsageError(f"{name} must be WxH in pixels, up to {LONGEST_SIDE} each, not {size!r}")


def parse_resize(size: str | int | tuple[int, int]) -> tuple[int, int]:
    """Parse "WxH" or "W:H" into (width, height). One side may be -1, which keeps the aspect ratio,
    or -2, which also makes it even. "W" alone means "Wx-2"."""
    parts = _sides(size)
    if len(parts) == 1:
        parts = [parts[0], KEEP_ASPECT_EVEN]
    lengths = [_is_length(part) for part in parts]
    follow = [str(part) in (str(KEEP_ASPECT), str(KEEP_ASPECT_EVEN)) for part in parts]
    if len(parts) == 2 and any(lengths) and all(map(or_, lengths, follow)):
        return int(parts[0]), int(parts[1])
    raise UsageError(
        f"{option('resize')} must be WxH (640x360), a width (640), or have -1 for the side that "
        "keeps the "
        f"aspect ratio (640x-1; -2: even), up to {LONGEST_SIDE} pixels, not {size!r}"
    )


def parse_size_in_bytes(text: str | int) -> int:
    """Parse bytes, such as 500000, "500k" or "1.5M" (powers of 1,000)."""
    size = _number(text, "B")
    if size is None:
        raise UsageError(
            f"{option('target_size')} must be a number of bytes such as 500k, not {text!r}"
        )
    return size


def parse_bitrate(text: str | int) -> int:
    """Parse bits per second, such as 200000, "200k" or "1.5M" (powers of 1,000)."""
    rate = _number(text, "bit/s|bps")
    if rate is None:
        raise UsageError(
            f"{option('target_bitrate')} must be bits per second such as 200k, not {text!r}"
        )
    return rate


def parse_bpp(text: str | float) -> float:
    """Parse bits per pixel, such as 0.05 or "0.05"."""
    try:
        return float(text)
    except (TypeError, ValueError):
        raise UsageError(
            f"{option('target_bpp')} must be a number such as 0.05, not {text!r}"
        ) from None


def parse_psnr(value: float | str) -> float:
    """Parse a target PSNR in dB, 10 to 60."""
    try:
        psnr = float(value)
    except (TypeError, ValueError):
        psnr = math.nan
    if not LEAST_PSNR <= psnr <= MOST_PSNR:
        raise UsageError(
            f"{option('target_psnr')} must lie in {LEAST_PSNR} to {MOST_PSNR} dB, not {value}"
        )
    return psnr


def parse_loss(loss: str | float) -> float:
    """Parse a loss of PSNR in dB, such as 0.5."""
    try:
        parsed = float(loss)
    except (TypeError, ValueError):
        raise UsageError(
            f"{option('target_loss')} must be a number of dB such as 0.5, not {loss!r}"
        ) from None
    if not 0 < parsed <= MOST_LOSS:
        raise UsageError(
            f"{option('target_loss')} must lie in 0 (exclusive) to {MOST_LOSS:g} dB, not {loss}"
        )
    return parsed


def parse_count(text: str | float) -> int:
    """Parse a number of parameters, such as 1500000, "1.5M" or "350k"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kKmM]?)", str(text).strip())
    count = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()] if match else 0
    if not 1 <= count <= 1e9:
        raise UsageError(f"{option('params')} must be a number such as 350k or 1.5M, not {text!r}")
    return round(count)


def check_integer(value: object, name: str, least: int) -> None:
    """Raise UsageError unless `value` is an integer from `least` on."""
    if not isinstance(value, Integral) or int(value) < least:
        raise UsageError(f"{name} must be an integer from {least}, not {value!r}")


def is_whole(value: object) -> TypeGuard[Integral]:
    """Whether a value is an integer of any type, NumPy's too, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def parse_seed(seed: object) -> int:
    """Return a seed of random numbers, an integer of any type in 0 to 2^63 - 1."""
    if not is_whole(seed) or not 0 <= int(seed) < 1 << 63:
        raise UsageError(f"{option('seed')} must be an integer in 0 to 2^63 - 1, not {seed!r}")
    return int(seed)


def parse_interval(seconds: object) -> float:
    """Return the seconds between two checkpoints, a number from 0."""
    if not isinstance(seconds, Real) or not 0 <= float(seconds) < math.inf:
        name = option("checkpoint_interval")
        raise UsageError(f"{name} must be a number of seconds from 0, not {seconds!r}")
    return float(seconds)


def parse_strides(strides: str | tuple[int, ...]) -> tuple[int, ...]:
    """Parse strides: "5,4,4,2,2" or a sequence."""
    parts = strides if isinstance(strides, (tuple, list)) else str(strides).split(",")
    if not all(str(part).strip().isdecimal() and int(part) for part in parts):
        raise UsageError(
            f"{option('strides')} must be whole numbers from 1, such as 5,4,2, not {strides!r}"
        )
    return tuple(int(part) for part in parts)


def parse_speed(speed: str | float) -> Fraction:
    """Parse a speed factor, such as 0.25, "0.25" or "1/4"."""
    text = str(speed).strip()
    if re.fullmatch(r"\d+(\.\d+)?|\d+/0*[1-9]\d*", text):
        value = Fraction(text).limit_denominator(1000)
        if SLOWEST <= value <= FASTEST:
            return value
    raise UsageError(
        f"{option('speed')} must be a number such as 0.25 or 1/4, 0.001 to 1000, not {speed!r}"
    )


def parse_colour(colour: str) -> tuple[int, ...]:
    """Parse "ff8000" or "#ff8000" into (red, green, blue), 0 to 255."""
    match = re.fullmatch(r"#?([0-9a-fA-F]{6})", str(colour).strip())
    if match is None:
        raise UsageError(f"{option('colour')} must be RRGGBB such as ff8000, not {colour!r}")
    return tuple(bytes.fromhex(match[1]))


def _sides(size: str | int | tuple[int, int]) -> list[Any]:
    return list(size) if isinstance(size, (tuple, list)) else re.split("[x:]", str(size).lower())


def _is_length(side: Any) -> bool:
    return str(side).isdecimal() and 0 < int(side) <= LONGEST_SIDE


def _number(text: str | int, unit: str) -> int | None:
    """Parse a number in 1..2^40-1 with an optional SI prefix and unit, which is a regular
    expression. Return None if the text is no such number."""
    pattern = rf"(\d+(?:\.\d+)?)\s*([kmg]?)(?:{unit})?"
    match = re.fullmatch(pattern, str(text).strip(), re.IGNORECASE)
    number = round(float(match[1]) * PREFIXES[match[2].lower()]) if match else 0
    return number if 1 <= number < 1 << 40 else None

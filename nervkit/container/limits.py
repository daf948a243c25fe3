"""Resource limits for decoding. A few hundred bytes can declare gigabytes of values or days of
arithmetic, so the default limits grow with the size of the file."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

from nervkit.container.fields import printable
from nervkit.errors import LimitError, UsageError
from nervkit.keywords import either, option
from nervkit.units import check_integer

MOST_PIXELS_A_SIDE = 1 << 14
MOST_FRAMES = 1 << 20
MOST_SEGMENTS = 1 << 16
MOST_CHUNKS = 1 << 17
MOST_MODELS = 1 << 10  # distinct configurations
MOST_NETWORKS = 1 << 12  # distinct pairs of configuration and length, each of which is costed
MOST_VALUES = 1 << 27  # per segment, in the format; `Limits` are usually lower


@dataclass(frozen=True)
class Budget:
    """A limit of `base` plus `per_byte` for every byte of the file, at most `most`."""

    what: str
    base: int
    per_byte: int
    most: int

    def of(self, size: int) -> int:
        return min(self.base + self.per_byte * size, self.most)


# Real files stay far below. HiNeRV-L on a UVG clip, the heaviest published network, needs 7e11 MACs
# per frame and 4e14 in all, in 13 MB; a GridNeRV of 15 kB needs 3e9 per frame at 4K.
BUDGETS = {
    "pixels": Budget("pixels in all frames", 1 << 30, 1 << 20, 1 << 46),
    "values": Budget("values in a segment", 1 << 20, 1 << 10, 1 << 27),
    "memory": Budget("bytes of memory", 1 << 29, 1 << 12, 1 << 34),
    "macs_per_frame": Budget("multiply-accumulates per frame", 1 << 34, 1 << 24, 1 << 42),
    "macs_per_file": Budget("multiply-accumulates in all frames", 1 << 42, 1 << 30, 1 << 52),
}


@dataclass(frozen=True)
class Limits:
    """The most that a decoder spends on a file. None: a default that grows with the file size.

    Attributes:
        pixels: frames x width x height.
        values: stored values (weights, biases, embeddings) per segment. Each is a coded symbol.
        memory: peak memory of decoding, in bytes.
        macs_per_frame: multiply-accumulates per frame.
        macs_per_file: multiply-accumulates in all frames.

    Declared sizes are checked before nervkit allocates or computes anything of that size.
    """

    pixels: int | None = None
    values: int | None = None
    memory: int | None = None
    macs_per_frame: int | None = None
    macs_per_file: int | None = None

    def __post_init__(self) -> None:
        """Raise UsageError unless each limit is None or a positive integer."""
        for spec in fields(self):
            limit = getattr(self, spec.name)
            if limit is not None:
                check_integer(limit, f"limit {spec.name}", 1)

    @classmethod
    def of(cls, limits: Self | None) -> Self:
        """Return limits, by default the default ones. Raises UsageError for another type."""
        if limits is not None and not isinstance(limits, cls):
            raise UsageError(f"limits must be nervkit.Limits(...), not {limits!r}")
        return limits or cls()

    @classmethod
    def parse(cls, texts: list[str]) -> Self:
        """Parse limits of the form "NAME=NUMBER", such as "memory=8G" or "macs-per-file=1e15".
        Raises UsageError."""
        limits = cls()
        names = [spec.name for spec in fields(cls)]
        for text in texts:
            name, _, number = text.partition("=")
            name = name.strip().lower().replace("-", "_")
            if name not in names:
                known = ", ".join(n.replace("_", "-") for n in names)
                raise UsageError(
                    f"{option('limit')} must be NAME=NUMBER with a name of {known}, not {text!r}"
                )
            limits = replace(limits, **{name: _number(number, text)})
        return limits

    def check(self, name: str, declared: int, size: int) -> None:
        """Raise LimitError if a file of `size` bytes declares more of `name` than allowed."""
        own = getattr(self, name)
        allowed = BUDGETS[name].of(size) if own is None else own
        if declared > allowed:
            raised = either(
                f"--limit {name.replace('_', '-')}={declared}",
                f"limits=nervkit.Limits({name}={declared})",
            )
            raise LimitError(
                f"decoding takes {declared:,} {BUDGETS[name].what}; the limit for a file of "
                f"{size:,} bytes is {allowed:,}. If you trust the file, raise the limit with "
                f"{raised}"
            )


#: for files that this program wrote itself
UNLIMITED = Limits(*(1 << 62,) * len(fields(Limits)))


def _number(text: str, whole: str) -> int:
    units = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
    unit = units.get(text.strip()[-1:].lower(), 1)
    try:
        number = float(text.strip()[: -1 if unit > 1 else None]) * unit
        if not 1 <= number < 1 << 62:
            raise ValueError
    except ValueError as error:
        raise UsageError(
            f"{option('limit')} must be NAME=NUMBER such as memory=8G, not {printable(repr(whole))}"
        ) from error
    return int(number)

"""Colour descriptions: the source's H.273 codes, and the matrix and range of the RGB conversion."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from nervkit.container.header import MATRICES, RANGES
from nervkit.errors import SourceError, UsageError
from nervkit.keywords import option

RGB, UNSPECIFIED = 0, 2
# H.273 matrix codes that are equivalent for 8-bit RGB
SAME_MATRIX = {6: 5, 10: 9}
#: luma weights of red and blue (K_R and K_B of H.273, table 4)
LUMA_WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt601": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}

#: display names of the matrices, and of the H.273 codes in tables 2 and 3
NAMES = {
    "bt709": "BT.709",
    "fcc": "FCC",
    "bt601": "BT.601",
    "smpte240m": "SMPTE 240M",
    "bt2020": "BT.2020",
}
PRIMARIES = {
    1: "BT.709",
    4: "BT.470 M",
    5: "BT.601",  # 625 lines
    6: "BT.601",  # 525 lines
    7: "SMPTE 240M",
    8: "film",
    9: "BT.2020",
    10: "XYZ",
    11: "DCI-P3",
    12: "Display P3",
    22: "EBU 3213",
}
TRANSFERS = {
    1: "BT.709",
    4: "gamma 2.2",
    5: "gamma 2.8",
    6: "BT.601",
    7: "SMPTE 240M",
    8: "linear",
    9: "logarithmic (100:1)",
    10: "logarithmic (316:1)",
    11: "xvYCC",
    12: "BT.1361",
    13: "sRGB",
    14: "BT.2020",
    15: "BT.2020",
    16: "PQ",
    17: "DCI (ST 428)",
    18: "HLG",
}


@dataclass(frozen=True)
class Colour:
    """The source's colour tags, and the conversion from its planes to RGB.

    Attributes:
        matrix, primaries, transfer: tagged H.273 codes; 2 is unspecified, matrix 0 is RGB.
        range: tagged range: 0 unspecified, 1 limited, 2 full.
        rgb_matrix, rgb_range: matrix and range of the conversion, keys of MATRICES and RANGES.
    """

    matrix: int = RGB
    range: int = 0
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    rgb_matrix: str = "bt709"
    rgb_range: str = "limited"

    @classmethod
    def resolve(
        cls,
        matrix: int,
        range: int,
        primaries: int,
        transfer: int,
        *,
        full_by_default: bool,
        asked_matrix: str | None,
        asked_range: str | None,
    ) -> Self:
        """Choose the conversion: the requested values (which replace the tags), else the tags, else
        ffmpeg's defaults (BT.601, limited). Raises SourceError for an unsupported matrix tag."""
        by_code = {code: name for name, code in MATRICES.items()}
        tagged = by_code.get(SAME_MATRIX.get(matrix, matrix))
        if asked_matrix is None and tagged is None and matrix not in (RGB, UNSPECIFIED):
            raise SourceError(
                f"colour matrix {matrix} is not supported; "
                f"set {option('matrix')} to one of "
                f"{', '.join(MATRICES)}"
            )
        default_range = "full" if range == 2 or (range == 0 and full_by_default) else "limited"
        if asked_matrix is not None and matrix != RGB:
            matrix = MATRICES[asked_matrix]
        return cls(
            matrix=matrix,
            range=RANGES[asked_range] if asked_range is not None else range,
            primaries=primaries,
            transfer=transfer,
            rgb_matrix=asked_matrix or tagged or "bt601",
            rgb_range=asked_range or default_range,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from `to_dict`'s result, such as the validated colour of a header."""
        return cls(**values)

    def __str__(self) -> str:
        """Such as "BT.709, limited range", followed by primaries and transfer if they differ."""
        parts = ["RGB"]
        if self.matrix != RGB:
            parts = [NAMES[self.rgb_matrix], f"{self.rgb_range} range"]
        own = parts[0]
        for what, code, names in (
            ("primaries", self.primaries, PRIMARIES),
            ("transfer", self.transfer, TRANSFERS),
        ):
            name = names.get(code, f"number {code}")
            if code != UNSPECIFIED and name != own:
                parts.append(f"{what} {name}")
        return ", ".join(parts) + " (untagged)" * (self.matrix == UNSPECIFIED)


def check_colour_options(matrix: str | None, range: str | None) -> None:
    """Raise UsageError, which lists the choices, for an unknown name."""
    for name, value, known in (("matrix", matrix, MATRICES), ("range", range, RANGES)):
        if value is not None and value not in known:
            raise UsageError(f"unknown {name} {value!r}; choose from: {', '.join(known)}")

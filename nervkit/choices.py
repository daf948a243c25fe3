"""Literal types of options, for type checkers and editors. Each option checks its value itself."""

from __future__ import annotations

from typing import Literal, TypeAlias

PresetName: TypeAlias = Literal["draft", "fast", "medium", "slow", "placebo"]
RecipeName: TypeAlias = Literal["native", "paper"]
MetricName: TypeAlias = Literal["rgb", "yuv"]
PrecisionName: TypeAlias = Literal["auto", "float32", "bfloat16"]
CompressionName: TypeAlias = Literal["nerv", "hnerv", "ffnerv", "hnerv-boost", "hinerv", "paper"]
MatrixName: TypeAlias = Literal["bt709", "fcc", "bt601", "smpte240m", "bt2020"]
RangeName: TypeAlias = Literal["limited", "full"]
CodecName: TypeAlias = Literal[
    "x264",
    "h264",
    "libx264",
    "x265",
    "h265",
    "hevc",
    "libx265",
    "vp9",
    "libvpx-vp9",
    "av1",
    "libsvtav1",
    "ffv1",
    "x264rgb",
    "libx264rgb",
]

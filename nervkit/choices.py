"""Literal types of options, for type checkers and editors. Each option checks its value itself."""

from __future__ import annotations

from typing import Literal, TypeAlias

PresetName: TypeAlias = Literal["draft", "fast", "medium", "slow", "placebo"]
RecipeName: TypeAlias = Literal["native", "paper"]
MetricName: TypeAlias = Literal["rgb", "yuv"]
PrecisionName: TypeAlias = Literal["auto", "float32", "bfloat16"]

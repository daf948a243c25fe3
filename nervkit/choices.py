"""Names that options take, for type checkers and editors. Each option checks its value itself."""

from __future__ import annotations

from typing import Literal, TypeAlias

Preset: TypeAlias = Literal["draft", "fast", "medium", "slow", "placebo"]
Recipe: TypeAlias = Literal["native", "paper"]
Metric: TypeAlias = Literal["rgb", "yuv"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]

"""Integer frequency tables of Laplace distributions, for values whose scale the decoder knows
beforehand. Numpy only; docs/format.md specifies the arithmetic.

A table depends on a scale and the fractional part of a mean. Scales are b = 2^((i - 20) / 4) for
i = 0 .. 63, in steps of the quantizer; fractions are quarters of a step.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nervkit.compression.rangecoder import TOTAL

SCALES = 64
SCALES_PER_OCTAVE = 4
LOWEST_SCALE = -20  # 2^(-20/4) steps: nearly all values are 0
FRACTIONS = 4  # per step: the precision of means
ONE = 1 << 31  # the probability 1 in cumulative distributions
UNIT_BITS = 8  # fixed-point bits of scales and means that are computed from decoded values

#: round(2^32 exp(-1 / (4 b))) for each scale: the decay of a tail over a quarter of a step
DECAYS = (
    1440801, 5145013, 15004422, 36905875, 78665070, 148652826, 253857248, 398132550,
    581260615, 799036310, 1044178424, 1307656790, 1580030169, 1852521207, 2117713904, 2369882518,
    2605029347, 2820730047, 3015876649, 3190386796, 3344923893, 3480652712, 3599040369, 3701703250,
    3790295335, 3866431115, 3931635878, 3987316692, 4034748382, 4075069962, 4109287957, 4138284039,
    4162825044, 4183574096, 4201101925, 4215897841, 4228380000, 4238904802, 4247775344, 4255248918,
    4261543595, 4266843974, 4271306145, 4275061981, 4278222805, 4280882540, 4283120382, 4285003080,
    4286586875, 4287919135, 4289039749, 4289982295, 4290775039, 4291441769, 4292002499, 4292474072,
    4292870656, 4293204170, 4293484642, 4293720503, 4293918848, 4294085643, 4294225905, 4294343854,
)  # fmt: skip
#: round(2^8 2^((i - 19.5) / 4)): the largest magnitude of scale i
THRESHOLDS = (
    9, 10, 12, 15, 17, 21, 25, 29, 35, 41, 49,
    59, 70, 83, 99, 117, 140, 166, 197, 235, 279, 332,
    395, 470, 558, 664, 790, 939, 1117, 1328, 1579, 1878, 2233,
    2656, 3158, 3756, 4467, 5312, 6317, 7512, 8933, 10624, 12634, 15024,
    17867, 21247, 25268, 30048, 35734, 42495, 50535, 60097, 71468, 84990, 101070,
    120194, 142935, 169979, 202141, 240387, 285870, 339959, 404281,
)  # fmt: skip


@lru_cache(maxsize=512)
def laplace_table(scale: int, fraction: int, low: int, high: int) -> np.ndarray:
    """Return the frequencies of the integers in [low, high], (high - low + 1,) int64, all positive
    and summing to 2^24.

    Args:
        scale: 0 to 63.
        fraction: the mean in quarters of a step, 0 to 3.
        low, high: the range; -2^15 <= low <= high < 2^15.
    """
    # The edges of the integers' intervals, in quarters from the mean: 4 k + 2 - fraction.
    edges = 4 * np.arange(low - 1, high + 1) + 2 - fraction
    tails = _tails(scale, 4 * (max(-low, high) + 2))[np.abs(edges)]
    mass = np.diff(np.where(edges <= 0, tails, ONE - tails))
    weights = mass + 1
    size = len(weights)
    table = 1 + (TOTAL - size) * weights // weights.sum()
    table[np.argmax(weights)] += TOTAL - table.sum()
    return table


@lru_cache(maxsize=SCALES * 8)
def _tails(scale: int, farthest: int) -> np.ndarray:
    """Return 2^30 times the probability of a distance of more than n quarters from the mean, for
    n = 0 .. farthest, int64. Each is the previous one times the scale's decay, rounded down."""
    tails = np.zeros(farthest + 1, np.int64)
    tail, decay = ONE // 2, DECAYS[scale]
    for n in range(farthest + 1):
        tails[n] = tail
        tail = tail * decay >> 32
        if tail == 0:
            break
    return tails


def scale_of(magnitude: np.ndarray) -> np.ndarray:
    """Return the scales for expected absolute values, int64 in units of 2^-UNIT_BITS steps."""
    return np.searchsorted(THRESHOLDS, magnitude, side="left")

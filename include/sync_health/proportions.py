"""Shares of counts, in percent, and how little few counts say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WILSON_Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: a two-sided 95 % interval."""

Numbers = NDArray[np.float64]


def percent_with_interval(part: NDArray[Any], whole: NDArray[Any]) -> tuple[Numbers, Numbers, Numbers]:
    """
    Return ``100 * part / whole`` and the low and high end of its 95 % interval, in percent; NaN where ``whole`` is 0 or NaN.

    The interval is Wilson's (E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    J. Am. Stat. Assoc. 22, 1927, p. 209), without continuity correction. It takes what is counted for independent, which
    the records of one sync are not quite: read it as how little a few records say, not as a test.

    Args:
        part, whole: of one length; 0 <= part <= whole where ``whole`` is positive.
    """
    n = np.where(whole > 0, whole, np.nan).astype(np.float64)
    score = 100 * part / n
    share = part / n
    shrink = 1 + WILSON_Z**2 / n
    middle = (share + WILSON_Z**2 / (2 * n)) / shrink
    reach = WILSON_Z / shrink * np.sqrt(share * (1 - share) / n + WILSON_Z**2 / (4 * n * n))
    known = ~np.isnan(n)
    # At 0 and 100 % the bound is exactly the score, but for the last bit.
    low = np.where(known & (part == 0), 0.0, np.clip(100 * (middle - reach), 0, 100))
    high = np.where(known & (part == whole), 100.0, np.clip(100 * (middle + reach), 0, 100))
    return score, low, high

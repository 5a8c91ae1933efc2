"""Tests whether groups of runs differ: paired by seed, by ranks, corrected for several
comparisons."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

LEVEL = 0.05
"""Probability of calling any group different by chance."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Comparison of a group with the reference."""

    pairs: int
    """Number of common seeds with values."""
    effect: float | None
    """Median of the pairs' averages (Hodges & Lehmann 1963), positive where the group is better."""
    interval: tuple[float, float] | None
    """95 % interval of the effect; None if there are too few pairs."""
    p: float | None
    """P value of the exact two-sided signed-rank test (Wilcoxon 1945); None without pairs."""
    corrected: float | None = None
    """P value corrected for all groups (Holm 1979)."""
    least: float | None = None
    """The smallest possible `corrected` for this number of pairs and groups."""

    @property
    def word(self) -> str:
        """better, worse, no difference shown, or too few seeds."""
        if self.corrected is None or self.effect is None:
            return "too few seeds to tell"
        if self.least is None or self.least > LEVEL:
            return "too few seeds to tell"
        if self.corrected > LEVEL:
            return "no difference shown"
        return "better" if self.effect > 0 else "worse"


def signed_rank(differences: Sequence[float]) -> float:
    """Two-sided p value: the share of all assignments of signs whose rank sum is at least as far
    from its mean as the observed one. Exact, also with ties; pairs without a difference are
    ignored.
    """
    left = [d for d in differences if d]
    if not left:
        return 1.0
    sizes = sorted(abs(d) for d in left)
    # twice the mean rank of ties is an integer
    twice = {s: 2 * sizes.index(s) + 1 + sizes.count(s) for s in set(sizes)}
    sums: Counter[int] = Counter({0: 1})
    for size in sizes:
        more: Counter[int] = Counter()
        for total, ways in sums.items():
            more[total] += ways
            more[total + twice[size]] += ways
        sums = more
    whole = sum(twice[s] for s in sizes)
    seen = sum(twice[abs(d)] for d in left if d > 0)
    far = abs(2 * seen - whole)
    ways = sum(w for t, w in sums.items() if abs(2 * t - whole) >= far)
    return ways / float(2 ** len(left))


def averages(differences: Sequence[float]) -> list[float]:
    """The sorted averages of all pairs of differences, including each with itself (Walsh)."""
    n = len(differences)
    return sorted((differences[i] + differences[j]) / 2 for i in range(n) for j in range(i, n))


def interval(differences: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """The shifts that the test does not reject, from the order statistics of the averages."""
    n = len(differences)
    ways = [1]
    for rank in range(1, n + 1):  # number of sets of ranks with each sum
        ways = [
            (ways[t] if t < len(ways) else 0) + (ways[t - rank] if t >= rank else 0)
            for t in range(len(ways) + rank)
        ]
    below, cut = 0, 0
    while cut < len(ways) and 2 * (below + ways[cut]) <= level * 2**n:
        below += ways[cut]
        cut += 1
    if not cut:
        return None
    found = averages(differences)
    return found[cut - 1], found[-cut]


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired:
    """Values by seed, with signs so that more is better."""
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    if not differences:
        return Paired(0, None, None, None)
    found = averages(differences)
    effect = (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2
    return Paired(len(differences), effect, interval(differences), signed_rank(differences))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """P values corrected for multiple comparisons (Holm 1979, step-down)."""
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    found: list[float | None] = [None] * len(ps)
    worst = 0.0
    for place, (p, index) in enumerate(order):
        worst = max(worst, min(1.0, p * (len(order) - place)))
        found[index] = worst
    return found


def corrected(groups: Sequence[Paired]) -> list[Paired]:
    """Test several groups together, with corrected p values.

    The smallest p of n pairs is 2 ** (1 - n), if all differences have the same sign. Holm's
    corrected values rise with each of the p values, so they are smallest where each of these is.
    """
    found = holm([each.p for each in groups])
    least = holm([2.0 ** (1 - each.pairs) if each.pairs else None for each in groups])
    return [
        replace(each, corrected=p, least=smallest)
        for each, p, smallest in zip(groups, found, least, strict=True)
    ]


def needed(groups: int) -> int:
    """Minimum number of pairs for a significant outcome with this number of comparisons."""
    return math.ceil(1 + math.log2(max(1, groups) / LEVEL))

"""Statistical test of the strategy against random search at equal cost.

**Null hypothesis.** A unit of cost spent on the strategy, after its random start, is as likely to
give a network beyond any value as one spent on random search. Under it each of the best networks of
both, taken from the top down, is the strategy's with probability r, the strategy's share of the
cost. So the strategy's networks beyond the j-th best of random search number k or more with
probability P(at most j - 1 of the first j + k - 1 are random), a sum of binomial terms. This is the
exact test of exceedances (Epstein 1954, "Tables for the distribution of the number of exceedances";
Gastwirth 1968, "The first-median test") with shares of cost instead of sample sizes. It does not
assume a distribution of the values, and allows trials of unequal cost. j is a tenth of the
control's trials, so the comparison is with the best networks of random search, not with a single
lucky one.

**Interval.** The shifts of the strategy's values for which the test is not significant: from its
k-th best minus the j-th best of random search to the reverse, where k is the smallest significant
number at `LEVEL` / 2. It is widened by the measurement error: related networks err on the same
samples, so luck on the validation split is inherited, which a test on trials cannot detect. For a
share of n samples, the variance of a difference is at most 2 a (1 - a) / n if errors are not
negatively correlated. The randomness of single trainings affects both sides, and is covered by the
test.

**Several objectives.** The strategy's networks that fewer than j random ones dominate are counted
instead, which is the same for one objective. Their number under the null hypothesis is simulated by
drawing labels for the networks of both. The reported difference is that of the hypervolumes.

**Verdict.** Better or worse if the interval does not contain 0; otherwise no difference is shown.
For a strategy that is random search itself, each of the two has a probability of at most `LEVEL` /
2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinase.api.supernet import LEARNED
from kinase.api.trial import Kind
from kinase.report.control import expected_best, sign, value_of, valued
from kinase.report.data import ReportData
from kinase.report.fronts import Box, losses_of
from kinase.report.rungs import at_first_rung, compared, inherits
from kinase.report.sides import (
    Sides,
    cost_of,
    random_start,
    sides_of,
    start_option,
    strategy_of,
    unit_of,
)
from kinase.strategy.pareto import pareto_front
from kinase.words import counted

LEVEL = 0.1
"""Probability that an interval does not contain the true value, two-sided. For a strategy that is
random search itself, better and worse each have at most half of it."""
TOP = 10
"""The best of the control is one in this many of its trials; the strategy's networks beyond it are
counted."""
FEWEST_DERIVED = 10
"""Number of derived architectures from which they are compared as any strategy's trials."""
MOST_DRAWS = 2000
"""Number of label draws for the test of several objectives."""
SUBSETS = 100
"""Number of draws for the average hypervolume at equal cost."""
MOST_POINTS = 1000
"""Number of networks for this test: the first fronts up to this number."""

Word = Literal[
    "better",
    "worse",
    "no difference shown",
    "too few trials to tell",
    "no search beyond the random start",
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Search and control at equal cost; without values if there was no search beyond the random
    start."""

    word: Word
    search: float | None
    """The strategy's best at `cost`, expected over its trials after the random start; with several
    objectives, its front's hypervolume."""
    control: float | None
    """The same for random search."""
    interval: tuple[float, float] | None
    """Interval of the difference, with the sign so that more is better for the strategy; None with
    several objectives. Infinite if there are too few trials for a bound."""
    cost: float
    unit: str
    """The cost at which they are compared, and its unit."""
    start: int
    """Number of trials in the random start, which are excluded."""
    text: str
    """The verdict in words."""

    @property
    def gain(self) -> float | None:
        """The measured difference: strategy minus random search."""
        if self.search is None or self.control is None:
            return None
        return self.search - self.control


def tail(count: int, rank: int, share: float) -> float:
    """Probability that at least `count` of the strategy's networks are beyond the `rank`-th best of
    random search, if each network from the top down is the strategy's with probability `share`."""
    if count <= 0:
        return 1.0
    n = count + rank - 1
    ours, theirs = math.log(share), math.log1p(-share)
    # by logarithms, because binomial coefficients of thousands of trials overflow
    terms = (
        math.exp(_log_choices(n, i) + i * theirs + (n - i) * ours) for i in range(min(rank, n + 1))
    )
    return min(1.0, math.fsum(terms))


def _log_choices(n: int, k: int) -> float:
    """Logarithm of the number of ways to choose k of n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def critical(rank: int, share: float, level: float, most: int) -> int | None:
    """The smallest count up to `most` for which `tail` is at most `level`, or None."""
    # `tail` decreases with the count: binary search
    low, high = 0, most
    if most < 1 or tail(most, rank, share) > level:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tail(middle, rank, share) <= level else (middle, high)
    return high


def margin(data: ReportData, value: float, level: float) -> float:
    """Half-width of the interval of a difference between two shares of the validation samples; 0
    for other metrics, or if the number of samples is unknown."""
    share = data.metric in ("val_accuracy", "accuracy") and 0 <= value <= 1
    if not share or not data.validation:
        return 0.0
    deviation = math.sqrt(2 * value * (1 - value) / data.validation)
    return NormalDist().inv_cdf(1 - level) * deviation


def verdict(data: ReportData) -> Verdict | None:
    """The strategy against the control at equal cost, or None where one of them has no value. Where
    all trials of the strategy are of its random start it says so, and compares nothing. Trials of
    several rungs are compared at their first; where brackets begin at different rungs, those that
    begin at the lowest. Where children inherit, they are compared at their last, at their whole
    cost: at its first rung, a child has what its parent was trained for."""
    rung = compared(data)
    if not inherits(data):
        data = at_first_rung(data)
    sides = sides_of(data)
    if sides is None:
        return _no_search(data)
    sides = replace(sides, rung=rung)
    if strategy_of(data) in LEARNED and len(sides.ours) < FEWEST_DERIVED:
        return _of_derived(data, sides)
    return _of_fronts(data, sides) if data.also else _of_values(data, sides)


def _no_search(data: ReportData) -> Verdict | None:
    asked = [t for t in data.trials if t.kind is Kind.SEARCH]
    if random_start(asked, strategy_of(data)) is not None or not valued(data, Kind.SEARCH):
        return None
    word: Word = "no search beyond the random start"
    count, unit = len(asked), unit_of(data)
    names = {1: "the one trial", 2: "both trials"}
    option = start_option(data.spec)
    text = (
        f"{word}{' yet' if data.phase in ('Running', 'Suspended') else ''}: "
        f"{names.get(count, f'all {count} trials')} of the strategy "
        f"{'was' if count == 1 else 'were'} proposed before it looked at results"
        f"{f' ({option})' if option else ''}, so there is nothing to compare with random search"
    )
    return Verdict(word, None, None, None, cost_of(asked, unit), unit, count, text)


def _of_derived(data: ReportData, sides: Sides) -> Verdict | None:
    """Of a strategy that learns the choices of a supernet and proposes what they led to: a handful
    of architectures say nothing of how likely such a value is at random, but its rank among
    random ones does, and so do their values once both are trained."""
    s = sign(data)
    ours, theirs = (
        [s * v for t in side if (v := value_of(data, t)) is not None]
        for side in (sides.ours, sides.theirs)
    )
    if not ours or not theirs:
        return None
    best, beaten = max(ours), sum(v < max(ours) for v in theirs)
    word: Word = "too few trials to tell"
    text = (
        f"{word}: with the weights of the supernet, what its choices led to has {s * best:.4f}, "
        f"better than {beaten} of {counted(len(theirs), 'random candidate')}"
    )
    trained = []
    for side in (sides.ours, sides.theirs):
        numbers = {t.number for t in side}
        found = [s * v for t, v in valued(data, Kind.FINAL) if numbers & set(t.parents)]
        trained += [max(found)] if found else []
    if len(trained) == 2:
        text += f"; trained, {s * trained[0]:.4f} and the best random one {s * trained[1]:.4f}"
    cost, random = float(len(ours)), max(theirs)
    return Verdict(word, s * best, s * random, None, cost, sides.unit, 0, text)


def _of_values(data: ReportData, sides: Sides) -> Verdict | None:
    s = sign(data)
    ours, theirs = (
        sorted((s * v for t in side if (v := value_of(data, t)) is not None), reverse=True)
        for side in (sides.ours, sides.theirs)
    )
    if not ours or not theirs:
        return None
    best = expected_best(ours, sides.draws(len(ours), 0))
    random = expected_best(theirs, sides.draws(len(theirs), 1))
    rank = max(1, len(theirs) // TOP)
    ahead = critical(rank, sides.share, LEVEL / 2, len(ours))
    behind = critical(rank, 1 - sides.share, LEVEL / 2, len(theirs))
    gain = best - random
    low = -math.inf if ahead is None else min(gain, ours[ahead - 1] - theirs[rank - 1])
    high = math.inf
    if behind is not None and len(ours) >= rank:
        high = max(gain, ours[rank - 1] - theirs[behind - 1])
    noise = margin(data, s * max(best, random), LEVEL / 2)
    interval = gain - math.hypot(gain - low, noise), gain + math.hypot(high - gain, noise)
    word: Word = "no difference shown"
    if interval[0] > 0:
        word = "better"
    elif interval[1] < 0:
        word = "worse"
    elif not any(map(math.isfinite, interval)):
        word = "too few trials to tell"
    return Verdict(
        word,
        s * best,
        s * random,
        interval,
        sides.cost,
        sides.unit,
        sides.start,
        _text(data, sides, word, s * best, s * random, interval),
    )


def _text(
    data: ReportData,
    sides: Sides,
    word: Word,
    best: float,
    random: float,
    interval: tuple[float, float],
) -> str:
    s = sign(data)
    low, high = sorted(s * end for end in interval)
    found = (
        f"{word}: best at the same cost ({_cost(data, sides)}) {best:.4f}, random search "
        f"{random:.4f}; difference {best - random:+.4f}"
    )
    if word == "too few trials to tell":
        return f"{found}; {_needed(sides)}"
    return f"{found}, {1 - LEVEL:.0%} interval {_end(low)} to {_end(high)}; {_whose(sides)}"


def _cost(data: ReportData, sides: Sides) -> str:
    """The cost at which search and control are compared."""
    rung = f", {sides.rung}" if data.laddered else ""
    singular = sides.unit.removesuffix("s") if round(sides.cost) == 1 else sides.unit
    return f"{sides.cost:,.0f} {singular}{rung}"


def _end(value: float) -> str:
    return f"{value:+.4f}" if math.isfinite(value) else "unbounded"


def _whose(sides: Sides) -> str:
    after = f" after its random start of {sides.start}" if sides.start else ""
    after += f" ({sides.remark})" if sides.remark else ""
    return (
        f"{counted(len(sides.ours), 'trial')} of the strategy{after} against "
        f"{counted(len(sides.theirs), 'random one')}"
    )


def _needed(sides: Sides) -> str:
    """Number of trials needed for a verdict, with these shares of the cost."""
    ours, theirs = (
        math.ceil(math.log(LEVEL / 2) / math.log(share)) for share in (sides.share, 1 - sides.share)
    )
    return (
        f"it takes {counted(ours, 'trial')} of the strategy after its random start (so far: "
        f"{len(sides.ours)}), or {counted(theirs, 'random one')} (so far: {len(sides.theirs)})"
    )


# Several objectives


def _of_fronts(data: ReportData, sides: Sides) -> Verdict | None:
    ours, theirs = (
        [x for t in side if (x := losses_of(data, t)) is not None]
        for side in (sides.ours, sides.theirs)
    )
    if not ours or not theirs:
        return None
    frame = Box.around([*ours, *theirs])
    best, random = (
        _expected_volume(frame, side, sides.draws(len(side), index))
        for index, side in enumerate((ours, theirs))
    )
    rank = max(1, len(theirs) // TOP)
    noise = margin(data, abs(min(x[0] for x in [*ours, *theirs])), LEVEL / 2)
    ahead = chance(_worsened(ours, noise), theirs, rank, sides.share)
    behind = chance(_worsened(theirs, noise), ours, rank, 1 - sides.share)
    word: Word = "no difference shown"
    if best > random and ahead <= LEVEL / 2:
        word = "better"
    elif best < random and behind <= LEVEL / 2:
        word = "worse"
    elif not any(
        critical(rank, share, LEVEL / 2, len(side))
        for share, side in ((sides.share, ours), (1 - sides.share, theirs))
    ):
        word = "too few trials to tell"
    text = (
        f"{word}: hypervolume at the same cost ({_cost(data, sides)}) {best:.4f}, random "
        f"search {random:.4f}; "
    )
    text += _needed(sides) if word == "too few trials to tell" else _whose(sides)
    return Verdict(word, best, random, None, sides.cost, sides.unit, sides.start, text)


def _worsened(points: Sequence[tuple[float, ...]], by: float) -> list[tuple[float, ...]]:
    return [(point[0] + by, *point[1:]) for point in points]


def _expected_volume(frame: Box, points: Sequence[tuple[float, ...]], draws: int) -> float:
    """Expected hypervolume of `count` of the points, drawn without replacement."""
    if draws == len(points):
        return frame.volume(points)
    rng = np.random.default_rng(0)
    found = [rng.choice(len(points), draws, replace=False) for _ in range(SUBSETS)]
    return fmean(frame.volume([points[i] for i in some]) for some in found)


def chance(
    ours: Sequence[tuple[float, ...]],
    theirs: Sequence[tuple[float, ...]],
    rank: int,
    share: float,
) -> float:
    """Probability that at least as many of `ours` are dominated or equalled by fewer than `rank` of
    `theirs`, if each point is ours with probability `share`; simulated with `MOST_DRAWS` draws and
    a fixed seed."""
    kept = _first_fronts([*ours, *theirs])
    points = np.array([[*ours, *theirs][i] for i in kept], np.float64)
    no_worse = (points[None, :, :] <= points[:, None, :]).all(axis=2)
    beaten: NDArray[np.float32] = np.array(no_worse, np.float32)
    np.fill_diagonal(beaten, 0)

    def count(mine: NDArray[np.bool_]) -> NDArray[np.int64]:
        above = (~mine).astype(np.float32) @ beaten.T
        found: NDArray[np.int64] = (mine & (above < rank)).sum(axis=-1)
        return found

    seen = count(np.array(kept) < len(ours))
    drawn = count(np.random.default_rng(0).random((MOST_DRAWS, len(points))) < share)
    return float((1 + (drawn >= seen).sum()) / (1 + MOST_DRAWS))


def _first_fronts(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Indices of the first fronts, if there are many points: `MOST_POINTS` to twice as many."""
    left, kept = list(range(len(points))), list[int]()
    if len(left) <= MOST_POINTS:
        return left
    while left and len(kept) < MOST_POINTS:
        front = {left[i] for i in pareto_front([points[i] for i in left])}
        if len(kept) + len(front) > 2 * MOST_POINTS:  # all pairs would not fit into memory
            drawn = np.random.default_rng(0).choice(
                sorted(front), 2 * MOST_POINTS - len(kept), False
            )
            return [*kept, *(int(i) for i in np.sort(drawn))]
        kept += sorted(front)
        left = [i for i in left if i not in front]
    return kept

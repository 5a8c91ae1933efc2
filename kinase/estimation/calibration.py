"""How far a rule that stops trials can be trusted, by the trials that it would have stopped and
that were trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

LEVEL = 0.95
"""Coverage of the intervals."""
EDGES = (0.25, 0.5, 0.75, 1.0)
"""Upper ends of the groups of probabilities, after the one below which trials are stopped."""


def wilson(share: float, count: float, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a probability (Wilson 1927), also of a share that is 0 or 1.

    Args:
        share: the share that was seen.
        count: of how many; with weights, of how many independent ones it is worth.
        level: probability that the interval covers the true value.
    """
    if count <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    whole = 1 + z * z / count
    middle = (share + z * z / (2 * count)) / whole
    half = z / whole * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low = 0.0 if share <= 0 else max(0.0, middle - half)
    return low, (1.0 if share >= 1 else min(1.0, middle + half))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the spared trials say of the stopped ones."""

    stopped: int
    """Trials that the rule stopped."""
    spared: int
    """Trials that it would have stopped, and that were trained on and have a result."""
    won: int
    """Those of the spared that became the best of the search."""

    @property
    def share(self) -> float | None:
        """Estimated share of the stopped trials that would have become the best: which trials are
        spared does not depend on their curves. None if none was spared."""
        return self.won / self.spared if self.spared else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the share."""
        return None if self.share is None else wilson(self.share, self.spared)


@dataclass(frozen=True, slots=True)
class Forecasted:
    """A trial at a look, and what it became."""

    trial: int
    """Number of the trial."""
    reaches: float
    """Probability that the rule gave it to reach the bar."""
    reached: bool
    """Whether it did."""
    weight: float = 1.0
    """How many trials it stands for: a spared one for those that were stopped as well."""


@dataclass(frozen=True, slots=True)
class Group:
    """Looks with similar probabilities."""

    low: float
    high: float
    """The probabilities lie between these."""
    trials: int
    """Trials that were looked at."""
    predicted: float
    """Mean probability to reach the bar."""
    reached: float
    """Share that did."""
    interval: tuple[float, float]
    """95 % interval of that share."""


def reliability(looks: Iterable[Forecasted], threshold: float) -> list[Group]:
    """What came true of a rule's probabilities, by groups of them; empty groups are left out.

    A trial counts once in a group, however often it was looked at there. Spared trials are weighted
    by the inverse of their share (Horvitz & Thompson 1952), because those that were stopped have no
    result. The interval is Wilson's for the number of trials that the weights are worth (Kish
    1965).

    Args:
        looks: at trials whose end is known.
        threshold: the probability below which the rule stops a trial.
    """
    edges = [threshold, *(edge for edge in EDGES if edge > threshold)]
    found: dict[int, dict[int, list[Forecasted]]] = {}
    for look in looks:
        place = next((i for i, edge in enumerate(edges) if look.reaches < edge), len(edges) - 1)
        found.setdefault(place, {}).setdefault(look.trial, []).append(look)
    lows = [0.0, *edges]
    return [
        _group(lows[place], edges[place], list(found[place].values())) for place in sorted(found)
    ]


def _group(low: float, high: float, trials: Sequence[Sequence[Forecasted]]) -> Group:
    weights = [looks[0].weight for looks in trials]
    whole = math.fsum(weights)

    def mean(values: Iterable[float]) -> float:
        return math.fsum(w * value for w, value in zip(weights, values, strict=True)) / whole

    predicted = mean(math.fsum(look.reaches for look in each) / len(each) for each in trials)
    reached = mean(sum(look.reached for look in each) / len(each) for each in trials)
    worth = whole * whole / math.fsum(w * w for w in weights)
    return Group(low, high, len(trials), predicted, reached, wilson(reached, worth))

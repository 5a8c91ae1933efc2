"""How much longer a search takes if results are reported in the order of the trials.

    python -m bench.deterministic

Slots are simulated: the durations of trials are log-normal, as a search space with networks of
several sizes gives them. Ratios of the time until the last trial ends, `deterministic` to default.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

TRIALS, RUNS = 400, 200


def default(durations: NDArray[np.float64], slots: int) -> float:
    """Time until all have ended, if a free slot takes the next trial."""
    ends = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def in_order(durations: NDArray[np.float64], slots: int) -> float:
    """The same if trial k starts when the first k - slots trials have ended."""
    told, ends = 0.0, list[float]()
    for number, duration in enumerate(durations):
        if number >= slots:
            told = max(told, ends[number - slots])
        ends.append(told + duration)
    return max(ends)


def main() -> None:
    """Measure, and print a table."""
    rng = np.random.default_rng(0)
    print("| slots | durations differ by a factor of | times as long, median (5 to 95 % of runs) |")
    print("| --- | --- | --- |")
    for slots in (2, 4, 16):
        for factor in (1.2, 1.5, 2.0):
            ratios = []
            for _ in range(RUNS):
                durations = rng.lognormal(0.0, np.log(factor), TRIALS)
                ratios.append(in_order(durations, slots) / default(durations, slots))
            low, middle, high = np.percentile(ratios, [5, 50, 95])
            print(f"| {slots} | {factor} | {middle:.2f} ({low:.2f} to {high:.2f}) |")


if __name__ == "__main__":
    main()

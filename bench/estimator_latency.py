"""Time of a decision with a long history.

    python -m bench.estimator_latency --history 10000

Each estimator is driven through a search with `--slots` trials at once, until so many trials were
begun. Of the last `--rounds` decisions the time of `next` is measured, each with a history that has
changed since the one before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

from kinase.api.estimation import Estimation
from kinase.api.fidelity import Fidelity
from kinase.estimation import Decision, Left, make_estimator
from kinase.estimation.testing import SETTING, Session, some_curve, some_ending
from kinase.history import History

MEMBERS: dict[str, dict[str, Any]] = {
    "SuccessiveHalving": {"type": "SuccessiveHalving"},
    "SuccessiveHalving, one bracket": {
        "type": "SuccessiveHalving",
        "successiveHalving": {"initial": 100_000},
    },
    "Hyperband": {"type": "Hyperband"},
    "ASHA": {"type": "ASHA"},
    "AsyncHyperband": {"type": "AsyncHyperband"},
    "ASHA with Median": {"type": "ASHA", "stopping": {"type": "Median"}},
}


def measure(model: dict[str, Any], history: int, rounds: int, slots: int) -> list[float]:
    """Milliseconds of each of the last decisions."""
    setting = replace(SETTING, full=Fidelity(epochs=81))
    estimator = make_estimator(Estimation.model_validate(model), setting)
    taken: list[float] = []
    decide = estimator.next

    def timed(seen: History, left: Left) -> Decision:
        began = time.perf_counter()
        decision = decide(seen, left)
        taken.append((time.perf_counter() - began) * 1e3)
        return decision

    estimator.next = timed  # type: ignore[method-assign]
    session = Session(estimator, some_curve, some_ending, slots, epochs=10**7, trials=history + 100)
    while len(session.history.asked) < history and session.step():
        pass
    return taken[-rounds:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--history", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--only", help="measure the members whose names begin so")
    arguments = parser.parse_args()
    print(f"{'estimation':32} {'mean ms':>9} {'median ms':>10} {'p99 ms':>8} {'max ms':>8}")
    for name, model in MEMBERS.items():
        if arguments.only and not name.startswith(arguments.only):
            continue
        taken = sorted(measure(model, arguments.history, arguments.rounds, arguments.slots))
        print(
            f"{name:32} {statistics.mean(taken):9.3f} {statistics.median(taken):10.3f} "
            f"{taken[int(len(taken) * 0.99)]:8.3f} {taken[-1]:8.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

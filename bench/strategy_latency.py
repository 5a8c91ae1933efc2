"""Time of a proposal and its observation with a long history.

    python -m bench.strategy_latency --history 10000
    python -m bench.strategy_latency --history 300 --only EAS

Each strategy is driven through `--history` trials of the space first; then `--rounds` times a
proposal is made, asked and told, one after the other. The time is that of the strategy's three
methods with what they ask of the space (keys, mutations), and of the key of the proposal.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from kinase.api.space import Space as SpaceModel
from kinase.api.strategy import Strategy as StrategyModel
from kinase.space import make_space
from kinase.strategy import make_strategy
from kinase.strategy.testing import Session

SPACES: dict[str, dict[str, Any]] = {
    "darts cells": {"type": "Cell", "cell": {"preset": "darts"}},
    "chains": {"type": "Chain", "chain": {}},
    "multi-branch": {"type": "MultiBranch", "multiBranch": {}},
    "trees": {"type": "Tree", "tree": {}},
}
STRATEGIES: dict[str, tuple[dict[str, Any], int]] = {
    "Random": ({"type": "Random"}, 1),
    "LocalSearch": ({"type": "LocalSearch"}, 1),
    "Evolution": ({"type": "Evolution"}, 1),
    "Evolution, 2 objectives": ({"type": "Evolution"}, 2),
    "EAS": ({"type": "EAS", "eas": {"reward": "identity"}}, 1),
    "PathLevel": ({"type": "PathLevel", "pathLevel": {"reward": "identity"}}, 1),
}
ONLY_FOR = {"EAS": "chains", "PathLevel": "trees"}


def measure(space: str, strategy: str, history: int, rounds: int) -> list[float]:
    """Milliseconds of each round."""
    model, objectives = STRATEGIES[strategy]
    made = make_space(SpaceModel.model_validate(SPACES[space]))
    session = Session(
        make_strategy(StrategyModel.model_validate(model), made, 0, objectives),
        objectives=objectives,
    )
    session.run(history)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        proposal = session.propose()
        assert proposal is not None
        trial = session.ask(proposal)
        session.tell(trial.number)
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--history", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--only", choices=STRATEGIES)
    arguments = parser.parse_args()
    print(
        f"{'space':14} {'strategy':24} {'mean ms':>9} {'median ms':>10} {'p99 ms':>8} {'max ms':>8}"
    )
    for space in SPACES:
        for strategy in STRATEGIES:
            if ONLY_FOR.get(strategy, space) != space:
                continue
            if arguments.only not in (None, strategy):
                continue
            taken = sorted(measure(space, strategy, arguments.history, arguments.rounds))
            print(
                f"{space:14} {strategy:24} {statistics.mean(taken):9.3f} "
                f"{statistics.median(taken):10.3f} "
                f"{taken[int(len(taken) * 0.99)]:8.3f} {taken[-1]:8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

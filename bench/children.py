"""How many of NASH's children inherit by exact morphisms: counts only, nothing is trained.

    python -m bench.children

The space is that of `bench.compare`, with 56 trials of four children per generation. The loss of a
network is the logarithm of its parameters, negated, plus normal noise of the given deviation, so
that larger networks tend to be better, as in training.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from typing import Any

import numpy as np

from bench.compare import SPACE
from kinase.api.space import Space as SpaceModel
from kinase.api.strategy import Strategy as StrategyModel
from kinase.api.trial import Outcome
from kinase.history import History, Trial
from kinase.morphism.bridge import bridge
from kinase.space import Frame, InfeasibleError, derive_rng, make_space
from kinase.strategy import make_strategy

OPTIONS: dict[str, dict[str, Any]] = {
    "the paper's edits, then mutations (default)": {},
    "drawn edits, then mutations": {"edits": "drawn"},
    "the paper's edits, former parents": {"saturated": "backtrack"},
    "drawn edits, former parents": {"edits": "drawn", "saturated": "backtrack"},
}
FRAME = Frame((1, 8, 8), 10)


def count(seed: int, trials: int, noise: float, options: dict[str, Any]) -> Counter[str]:
    """What the children of a search begin with."""
    space = make_space(SpaceModel.model_validate({"type": "Chain", "chain": SPACE}))
    nash = {"initial": 2, "start": "small", "neighbours": 4, **options}
    model = StrategyModel.model_validate({"type": "NASH", "nash": nash})
    strategy = make_strategy(model, space, seed, 1, FRAME)
    history, found = History(), Counter[str]()
    noises = np.random.default_rng(seed).normal(0, noise, trials)
    for number in range(trials):
        proposal = strategy.propose(history, derive_rng(seed, 0, number))
        if proposal is None:
            break
        if proposal.operation == "continue":
            found["continued"] += 1
        elif proposal.parents:
            parent = history.by_number[proposal.parents[0]].architecture
            exact = bridge(space, parent, proposal.architecture, FRAME) is not None
            found["exact" if exact else "matching"] += 1
        key = space.key(proposal.architecture)
        trial = Trial(number, proposal.architecture, key, proposal.parents)
        history.ask(trial)
        strategy.asked(trial, history)
        try:
            params = space.graph(proposal.architecture, FRAME).params()
            ending = Outcome.SUCCEEDED, (float(noises[number]) - math.log(params),)
        except InfeasibleError:
            ending = Outcome.INFEASIBLE, (math.inf,)
        history.tell(number, *ending)
        strategy.observe(trial, history)
    return found


def main() -> None:
    """Count, and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=56)
    parser.add_argument("--noise", type=float, default=0.3)
    options = parser.parse_args()
    for name, chosen in OPTIONS.items():
        found = [
            count(seed, options.trials, options.noise, chosen) for seed in range(options.seeds)
        ]
        shares = [each["exact"] / (each["exact"] + each["matching"]) for each in found]
        print(
            f"{name}: exact {[each['exact'] for each in found]}, matching "
            f"{[each['matching'] for each in found]}, least share {min(shares):.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()

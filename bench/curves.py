"""Schedulers on recorded learning curves.

    python -m bench.curves CURVES --draws 300
    python -m bench.curves CURVES --draws 300 --diverged

CURVES is a folder of `.npz` files with `valid` (configurations, points): the losses of trainings
after equal parts of them, of which each point counts as an epoch. A search draws configurations at
random, without replacement; draws are paired, so all methods see the same ones in the same order.
All methods have the same budget, but for `full`, which has five trainings. The regret is the final
loss of the configuration that the estimator ranks first, minus the least of the task. Trainings
whose losses are not all finite are left out, unless `--diverged` is given.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinase.api import Fidelity
from kinase.api.estimation import Estimation
from kinase.api.fidelity import Grant
from kinase.estimation import Setting, make_estimator
from kinase.estimation.testing import SETTING, Session

RUNGS = {"rungs": [1, 3, 9, 17], "eta": 3}


@dataclass(frozen=True)
class Method:
    """What is compared."""

    name: str
    estimation: dict[str, Any]
    trials: int | None = None
    epochs: int | None = 247
    slots: int = 1


HALVING = {"type": "SuccessiveHalving", "successiveHalving": {**RUNGS, "initial": 81}}
ASHA = {"type": "ASHA", "asha": RUNGS}
METHODS = (
    Method("full", {"type": "Full"}, epochs=5 * 51),
    Method("successive halving", HALVING, 81),
    Method("successive halving, 64 at once", HALVING, 81, slots=64),
    Method("hyperband", {"type": "Hyperband", "hyperband": RUNGS}),
    Method("asha", ASHA),
    Method("asha, 64 at once", ASHA, slots=64),
    Method("asha, last value", {"type": "ASHA", "asha": {**RUNGS, "score": "last"}}),
    Method("asha, eta 4 from 1", {"type": "ASHA"}),
    Method("asynchronous hyperband", {"type": "AsyncHyperband", "asyncHyperband": RUNGS}),
)


def regret(method: Method, losses: list[list[float]], setting: Setting) -> tuple[float, int]:
    """Regret of a search over trainings in this order, and its epochs."""

    def curve(number: int, grant: Grant) -> list[float]:
        return losses[number][: grant.until]

    model = Estimation.model_validate(method.estimation)
    session = Session(
        make_estimator(model, setting),
        curve,
        slots=method.slots,
        epochs=method.epochs,
        trials=min(method.trials or len(losses), len(losses)),
    ).run()
    best = min(session.history.told, key=session.estimator.rank)
    least = min(row[-1] for row in losses)
    return losses[best.number][-1] - least, session.spent


def load(path: Path, *, diverged: bool) -> np.ndarray:
    """The losses of a task; what is not a number is infinite."""
    found: np.ndarray = np.load(path, allow_pickle=False)["valid"].astype(float)
    if not diverged:
        return found[np.isfinite(found).all(axis=1)]
    return np.where(np.isfinite(found), found, math.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curves", type=Path)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--diverged", action="store_true", help="with trainings that diverged")
    parser.add_argument("--only", help="run the methods whose names begin so")
    arguments = parser.parse_args()
    tasks = [load(p, diverged=arguments.diverged) for p in sorted(arguments.curves.glob("*.npz"))]
    for method in METHODS:
        if arguments.only and not method.name.startswith(arguments.only):
            continue
        cells, spent = [], []
        for table in tasks:
            setting = Setting(Fidelity(epochs=table.shape[1]), SETTING.space, SETTING.frame, seed=0)
            found = []
            for draw in range(arguments.draws):
                order = np.random.default_rng(draw).permutation(len(table))
                value, epochs = regret(method, table[order].tolist(), setting)
                found.append(value)
                spent.append(epochs)
            error = statistics.stdev(found) / math.sqrt(len(found))
            cells.append(f"{statistics.fmean(found):.3f} ({error:.3f})")
        print(
            f"| {method.name} | {' | '.join(cells)} | {statistics.fmean(spent):.0f} |", flush=True
        )


if __name__ == "__main__":
    main()

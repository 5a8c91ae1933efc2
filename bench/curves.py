"""Schedulers on recorded learning curves.

    python -m bench.curves CURVES --draws 300
    python -m bench.curves CURVES --draws 300 --diverged
    python -m bench.curves CURVES --draws 100 --defaults --epochs 250

CURVES is a folder of `.npz` files with `valid` (configurations, points): the losses of trainings
after equal parts of them, the first before the training; each point counts as an epoch. A search
draws configurations at random, without replacement; draws are paired, so all methods see the same
ones in the same order. All methods have the same budget, but for `full`, which has five trainings.
The regret is the final loss of the configuration that the estimator ranks first, minus the least of
the task; one above 10 counts as 10. Trainings whose losses are not all finite are left out, unless
`--diverged` is given.

With `--defaults` the point before the training is left out, and schedulers have their own ladders.
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
from kinase.history import Trial

RUNGS = {"rungs": [1, 3, 9, 17], "eta": 3}
BUDGET = 247
WORST = 10.0


@dataclass(frozen=True)
class Method:
    """What is compared."""

    name: str
    estimation: dict[str, Any]
    trials: int | None = None
    slots: int = 1
    share: float = 1.0
    """Of the budget."""


def asha(**options: Any) -> dict[str, Any]:
    """A manifest's estimation."""
    return {"type": "ASHA", "asha": options}


HALVING = {"type": "SuccessiveHalving", "successiveHalving": {**RUNGS, "initial": 81}}
METHODS = (
    Method("full", {"type": "Full"}, share=5 * 51 / BUDGET),
    *(Method(f"successive halving, {n} at once", HALVING, 81, n) for n in (1, 64)),
    *(
        Method(f"asha, promote {promote}, score {score}, {n} at once", options, None, n)
        for promote, score in (
            ("delayed", "last"),
            ("delayed", "best"),
            ("soon", "last"),
            ("soon", "best"),
            ("last", "last"),
        )
        for n in (1, 64)
        for options in [asha(**RUNGS, promote=promote, score=score)]
    ),
)
DEFAULTS = (
    Method("full", {"type": "Full"}),
    *(
        Method(f"{name}, {n} at once", estimation, None, n)
        for name, estimation in (
            ("asha", asha()),
            ("asha, score best", asha(score="best")),
            ("asha, promote soon", asha(promote="soon")),
            ("asha, promote last", asha(promote="last")),
            ("asha, eta 4", asha(eta=4)),
            ("asha, eta 4, promote soon", asha(eta=4, promote="soon")),
            ("asha, eta 2 from 3", asha(eta=2, least=3)),
            ("asha, eta 3 from 3", asha(eta=3, least=3)),
            ("successive halving", {"type": "SuccessiveHalving"}),
            ("hyperband", {"type": "Hyperband"}),
            ("hyperband, table", {"type": "Hyperband", "hyperband": {"brackets": "table"}}),
            ("asynchronous hyperband", {"type": "AsyncHyperband"}),
        )
        for n in (1, 64)
    ),
)


def lowest(trial: Trial) -> float:
    """The loss at the end of its curve."""
    return trial.curve[-1] if trial.curve else math.inf


def search(
    method: Method, losses: np.ndarray, order: np.ndarray, epochs: int
) -> tuple[float, float, int, float]:
    """A search over trainings in this order: the regret of what the estimator ranks first, that of
    the least loss at whatever rung, the epochs, and the time in epochs of a mean trial."""

    def curve(number: int, grant: Grant) -> list[float]:
        found: list[float] = losses[order[number], : grant.until].tolist()
        return found

    setting = Setting(Fidelity(epochs=losses.shape[1]), SETTING.space, SETTING.frame, seed=0)
    session = Session(
        make_estimator(Estimation.model_validate(method.estimation), setting),
        curve,
        slots=method.slots,
        epochs=round(epochs * method.share),
        trials=min(method.trials or len(losses), len(losses)),
    ).run()
    told, ends = session.history.told, losses[:, -1]
    chosen = (min(told, key=session.estimator.rank), min(told, key=lowest))
    first, least = (min(ends[order[t.number]] - ends.min(), WORST) for t in chosen)
    return float(first), float(least), session.spent, session.now


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
    parser.add_argument("--epochs", type=int, default=BUDGET, help="budget of a search")
    parser.add_argument("--diverged", action="store_true", help="with trainings that diverged")
    parser.add_argument("--defaults", action="store_true", help="schedulers with their own ladders")
    parser.add_argument("--only", help="run the methods whose names begin so")
    arguments = parser.parse_args()
    tasks = [load(p, diverged=arguments.diverged) for p in sorted(arguments.curves.glob("*.npz"))]
    for method in DEFAULTS if arguments.defaults else METHODS:
        if arguments.only and not method.name.startswith(arguments.only):
            continue
        cells, rows = [], []
        for table in tasks:
            losses = table[:, 1:] if arguments.defaults else table
            found = [
                search(method, losses, np.random.default_rng(n).permutation(len(table)), epochs)
                for n in range(arguments.draws)
                for epochs in [arguments.epochs]
            ]
            rows.extend(found)
            first = [row[0] for row in found]
            error = statistics.stdev(first) / math.sqrt(len(first))
            cells.append(f"{statistics.fmean(first):.3f} ({error:.3f})")
        mean, least, epochs, time = (statistics.fmean(column) for column in zip(*rows, strict=True))
        shown = f"{mean:.3f} | {least:.3f} | {epochs:.0f} | {time:.0f}"
        print(f"| {method.name} | {' | '.join(cells)} | {shown} |", flush=True)


if __name__ == "__main__":
    main()

"""Rules that stop trials by their learning curves, replayed over recorded ones.

    python -m bench.curve_rules CURVES [--rules Median,Baker] [--trainings 20] [--draws 5]
    python -m bench.curve_rules CURVES --schedulers ASHA,FreezeThaw --rules None --times 1

CURVES is a folder of `.npz` files with `valid` (configurations, points), the losses of trainings,
and `hp`, their hyper-parameters. The first point is before the training. Searches with and without
a rule begin the same configurations in the same order, at the same cost: `--trainings` full ones.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, ParamSpec, TypeVar

import numpy as np

from kinase.api import Fidelity
from kinase.api.estimation import Estimation
from kinase.api.fidelity import Grant
from kinase.estimation import Setting, Stop, make_estimator
from kinase.estimation.stopping import Stopping
from kinase.estimation.testing import Session

P, R = ParamSpec("P"), TypeVar("R")

SCHEDULERS: dict[str, dict[str, Any]] = {
    "Full": {"type": "Full"},
    "ASHA": {"type": "ASHA"},
    "FreezeThaw": {"type": "FreezeThaw"},
}
HOPELESS = "it can no longer be promoted"
"""Why ASHA itself stops a trial."""


@dataclass
class Task:
    """Recorded trainings, in a drawn order."""

    losses: np.ndarray
    hp: np.ndarray

    @property
    def epochs(self) -> int:
        return int(self.losses.shape[1])

    def curve(self, number: int, grant: Grant) -> list[float]:
        row = self.losses[number, : grant.until]
        return np.where(np.isfinite(row), row, np.inf).tolist()

    def end(self, number: int) -> float:
        return self.curve(number, Grant(fidelity=Fidelity(epochs=self.epochs)))[-1]


def load(path: Path, seed: int) -> Task:
    data = np.load(path)
    # the tasks have the same configurations: with one order for all, draws would be the same
    order = np.random.default_rng([seed, *path.stem.encode()]).permutation(len(data["valid"]))
    hp = np.log(np.abs(data["hp"][order]) + 1e-12)
    return Task(data["valid"][order, 1:].astype(float), (hp - hp.mean(0)) / (hp.std(0) + 1e-9))


@dataclass
class Replay(Session):
    """A session whose trials have their hyper-parameters as features."""

    hp: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def _event(self, kind: str, *arguments: Any) -> None:
        super()._event(kind, *arguments)
        if kind == "ask":
            trial = self.history.by_number[arguments[0]]
            trial.metrics = {f"proxy_hp{i}": float(x) for i, x in enumerate(self.hp[trial.number])}


def timed(inner: Callable[P, R], seconds: list[float]) -> Callable[P, R]:
    """A function that also notes how long it took."""

    def outer(*args: P.args, **kwargs: P.kwargs) -> R:
        began = time.process_time()
        found = inner(*args, **kwargs)
        seconds.append(time.process_time() - began)
        return found

    return outer


def run(
    task: Task, scheduler: str, stopping: dict[str, Any] | None, epochs: int
) -> tuple[Replay, list[float]]:
    data = {**SCHEDULERS[scheduler], **({"stopping": stopping} if stopping else {})}
    nowhere: Any = None
    setting = Setting(Fidelity(epochs=task.epochs), space=nowhere, frame=nowhere)
    estimator = make_estimator(Estimation.model_validate(data), setting)
    seconds: list[float] = []
    if estimator.slow and stopping is None:
        estimator.next = timed(estimator.next, seconds)  # type: ignore[method-assign]
    if isinstance(estimator, Stopping):
        rule = estimator.rule
        rule.verdict = timed(rule.verdict, seconds)  # type: ignore[method-assign]
    session = Replay(estimator, task.curve, epochs=epochs, trials=len(task.losses), hp=task.hp)
    return session.run(), seconds


def best(session: Replay, task: Task) -> float:
    """The best loss at the full fidelity; where no trial got there, that which the trial with the
    least loss so far would have there."""
    told = [trial for trial in session.history.told if trial.curve]
    whole = [trial for trial in told if len(trial.curve) == task.epochs]
    return task.end(min(whole or told, key=lambda trial: trial.curve[-1]).number)


def of(session: Replay, task: Task) -> tuple[int, int, int, bool]:
    """Trials, those that the rule stopped, those of them that would have been better than the best
    before them, and whether the best of all was stopped."""
    told = [a for kind, a in session.events if kind == "tell"]
    looks = [d for _, _, d in session.decisions if isinstance(d, Stop) and d.why != HOPELESS]
    stopped = {decision.trial for decision in looks}
    seen, wrong = math.inf, 0
    for number, _, losses, curve in told:
        if number in stopped:
            wrong += task.end(number) < seen < math.inf
        elif len(curve) == task.epochs:
            seen = min(seen, losses[0])
    trials = len(session.history.asked)
    winner = min(range(trials), key=task.end)
    return trials, len(stopped), wrong, winner in stopped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("curves", type=Path)
    parser.add_argument("--rules", default="Median,Baker,LCNet,Domhan")
    parser.add_argument("--schedulers", default="Full,ASHA")
    parser.add_argument("--trainings", type=int, default=20)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--options", default="{}", help="of the rule, as JSON")
    parser.add_argument("--times", default="1,2,4", help="costs of the searches without a rule")
    args = parser.parse_args()
    times = [float(each) for each in args.times.split(",")]
    without = " | ".join(f"without, {k:g}x the cost" for k in times)
    print(
        f"| scheduler | rule | trials | stopped | regret | {without} | winners stopped | in error |"
    )
    print("|" + " --- |" * (7 + len(times)))
    paths = sorted(args.curves.glob("*.npz"))
    plain: dict[tuple[str, Path, int], tuple[float, ...]] = {}
    for scheduler in args.schedulers.split(","):
        for rule in args.rules.split(","):
            rows, seconds = [], []
            for path in paths:
                for draw in range(args.draws):
                    task = load(path, draw)
                    cost = args.trainings * task.epochs
                    key = scheduler, path, draw
                    if key not in plain:
                        found = [run(task, scheduler, None, int(k * cost))[0] for k in times]
                        plain[key] = tuple(best(session, task) for session in found)
                    options = {"type": rule, "every": args.every, "spare": 0}
                    options |= json.loads(args.options)
                    none = rule == "None"
                    session, took = run(task, scheduler, None if none else options, cost)
                    seconds += took
                    least = min(task.end(number) for number in range(len(task.losses)))
                    regrets = [value - least for value in (best(session, task), *plain[key])]
                    rows.append((*of(session, task), *regrets))
            trials, stopped, wrong, winners, *regrets = np.array(rows, dtype=float).T
            shown = " | ".join(f"{regret.mean():.3f}" for regret in regrets)
            share = stopped.sum() / trials.sum()
            print(
                f"| {scheduler} | {rule} | {trials.mean():.0f} | {share:.0%} "
                f"| {shown} | {winners.mean():.1%} of {len(rows)} "
                f"| {wrong.sum() / max(stopped.sum(), 1):.1%} |",
                flush=True,
            )
            middle, most = median(seconds or [0.0]), max(seconds, default=0.0)
            print(
                f"  {rule}: {len(seconds)} verdicts, {middle:.4f} s (median), {most:.2f} s (most)",
                file=sys.stderr,
                flush=True,
            )


if __name__ == "__main__":
    main()

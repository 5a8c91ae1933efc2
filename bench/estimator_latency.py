"""Time of a decision with a long history.

    python -m bench.estimator_latency --history 10000
    python -m bench.estimator_latency --history 100 --slow

Each estimator is driven through a search with `--slots` trials at once, until so many trials were
begun. Of the last `--rounds` decisions the processor time is measured: of `next`, and of `propose`
where a candidate is sampled, each with a history that has changed since the one before. `fold` is
the processor time that the history and the strategy take to learn of a result.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kinase.api.estimation import Estimation
from kinase.api.fidelity import Fidelity, Grant
from kinase.api.space import Space as SpaceModel
from kinase.api.stopping import Stopping
from kinase.api.strategy import Strategy as StrategyModel
from kinase.estimation import Decision, Estimator, Left, Sample, make_estimator
from kinase.estimation.rules.base import make_rule
from kinase.estimation.testing import SETTING, Session, replay, some_curve, some_ending
from kinase.history import History, Trial
from kinase.space import derive_rng, make_space
from kinase.strategy import Strategy, make_strategy

SPACE: dict[str, Any] = {"type": "Cell", "cell": {"preset": "darts"}}
RANDOM = "Random"
MEMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "SuccessiveHalving": ({"type": "SuccessiveHalving"}, RANDOM),
    "SuccessiveHalving, one bracket": (
        {"type": "SuccessiveHalving", "successiveHalving": {"initial": 100_000}},
        RANDOM,
    ),
    "Hyperband": ({"type": "Hyperband"}, RANDOM),
    "BOHB (Hyperband, BOHB)": ({"type": "Hyperband"}, "BOHB"),
    "ASHA": ({"type": "ASHA"}, RANDOM),
    "ASHA, Evolution": ({"type": "ASHA"}, "Evolution"),
    "AsyncHyperband": ({"type": "AsyncHyperband"}, RANDOM),
    "ASHA with Median": ({"type": "ASHA", "stopping": {"type": "Median"}}, RANDOM),
}


@dataclass
class Taken:
    """Milliseconds of processor time."""

    decisions: list[float] = field(default_factory=list)
    """`next`, with `propose` where it samples."""
    samples: list[float] = field(default_factory=list)
    """Those of them that sample."""
    folds: list[float] = field(default_factory=list)
    """To take in a rest or an end."""


class Timed(Session):
    """A session with a strategy that measures what both members take."""

    def __init__(self, estimator: Estimator, strategy: Strategy, **arguments: Any) -> None:
        super().__init__(estimator, some_curve, some_ending, **arguments)
        self.strategy = strategy
        self.taken = Taken()
        decide = estimator.next

        def timed(seen: History, left: Left) -> Decision:
            began = time.process_time()
            decision = decide(seen, left)
            if isinstance(decision, Sample):
                rng = derive_rng(0, 0, len(seen.asked))
                self.proposal = strategy.propose(seen, rng)
            took = (time.process_time() - began) * 1e3
            self.taken.decisions.append(took)
            if isinstance(decision, Sample):
                self.taken.samples.append(took)
            return decision

        estimator.next = timed  # type: ignore[method-assign]

    def _event(self, kind: str, *arguments: Any) -> None:
        if kind == "ask":
            self._ask(*arguments)
            return
        number = arguments[0]
        first = not self.history.by_number[number].losses
        began = time.process_time()
        replay(self.history, kind, arguments)
        trial = self.history.by_number[number]
        if first and trial.losses:
            self.strategy.observe(trial, self.history)
        if kind != "grant":
            self.taken.folds.append((time.process_time() - began) * 1e3)

    def _ask(self, number: int, grant: Grant, parent: int | None) -> None:
        assert parent is None, "no candidate inherits"
        assert self.proposal is not None
        found = self.proposal
        key = self.strategy.space.key(found.architecture)
        trial = Trial(number, found.architecture, key, found.parents, grant=grant)
        self.history.ask(trial)
        self.strategy.asked(trial, self.history)


def measure(member: tuple[dict[str, Any], str], history: int, rounds: int, slots: int) -> Taken:
    """What the last decisions took."""
    model, strategy = member
    setting = replace(SETTING, full=Fidelity(epochs=81))
    session = Timed(
        make_estimator(Estimation.model_validate(model), setting),
        make_strategy(
            StrategyModel.model_validate({"type": strategy}),
            make_space(SpaceModel.model_validate(SPACE)),
            0,
        ),
        slots=slots,
        epochs=10**7,
        trials=history + 100,
    )
    while len(session.history.asked) < history and session.step():
        pass
    taken = session.taken
    return Taken(taken.decisions[-rounds:], taken.samples[-rounds:], taken.folds[-rounds:])


def slow(history: int) -> dict[str, float]:
    """Seconds of a decision or a verdict that fits models, about so many trials under ASHA."""
    setting = replace(SETTING, full=Fidelity(epochs=81))
    asha = make_estimator(Estimation.model_validate({"type": "ASHA"}), setting)
    session = Session(asha, some_curve, slots=8, epochs=10**6, trials=history)
    while session.step():
        pass
    seen = session.history
    thaw = make_estimator(Estimation.model_validate({"type": "FreezeThaw"}), setting)
    taken = {"FreezeThaw, a decision": _seconds(lambda: thaw.next(_resting(seen), Left(10**6, 10)))}
    for name in ("Domhan", "LCNet", "Baker"):
        rule = make_rule(Stopping.model_validate({"type": name}), 0)
        trial = next(t for t in seen.asked if len(t.curve) >= 16)
        grant = trial.grant.model_copy(update={"until": 81})
        looked = replace(trial, grant=grant, done=16, curve=trial.curve[:16])
        taken[f"{name}, a verdict after 16 of 81 epochs"] = _seconds(
            lambda rule=rule, looked=looked: rule.verdict(looked, seen, 0.5)
        )
    return taken


def _resting(seen: History) -> History:
    """The trials as they rest after their first five epochs."""
    found = History()
    grant = Grant(fidelity=Fidelity(epochs=81), until=5, final=False)
    for trial in seen.asked:
        found.ask(Trial(trial.number, {}, trial.key, grant=grant))
        curve = some_curve(trial.number, grant)
        found.rest(trial.number, 5, (curve[-1],), curve)
    return found


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _shown(taken: list[float]) -> str:
    ordered = sorted(taken)
    return f"{statistics.median(ordered):10.3f} {ordered[int(len(ordered) * 0.99)]:9.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--history", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--only", help="measure the members whose names begin so")
    parser.add_argument("--slow", action="store_true", help="those that fit models to curves")
    arguments = parser.parse_args()
    if arguments.slow:
        for what, seconds in slow(arguments.history).items():
            print(f"{what:42} {seconds:8.2f} s", flush=True)
        return
    columns = ("decision", "that samples", "fold")
    print(f"{'median and p99 ms':32} " + " ".join(f"{name:>20}" for name in columns))
    for name, member in MEMBERS.items():
        if arguments.only and not name.startswith(arguments.only):
            continue
        taken = measure(member, arguments.history, arguments.rounds, arguments.slots)
        shown = " ".join(_shown(each) for each in (taken.decisions, taken.samples, taken.folds))
        print(f"{name:32} {shown}", flush=True)


if __name__ == "__main__":
    main()

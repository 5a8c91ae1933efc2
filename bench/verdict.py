"""How often the report's verdict says better and worse on NAS-Bench-201.

    python -m bench.verdict --seeds 500

Each search is played with the strategies themselves, without the loop's journal: a share of the
trials is the control's, as in a run, and results are looked up in the table. `Random` is held
against random search, which it is, so what it is called is the rate of false verdicts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from bench.nasbench201 import FULL, INFO, space, table
from kinase.api.strategy import EvolutionStrategy
from kinase.api.strategy import Strategy as StrategyModel
from kinase.api.trial import Cost, Kind, Outcome
from kinase.experiment.seeds import Stream, derive
from kinase.experiment.stage import owes_control
from kinase.report import ReportData
from kinase.report.data import ReportTrial
from kinase.report.verdict import verdict
from kinase.space.nasbench201 import to_nasbench201
from kinase.strategy import History, Trial, derive_rng, make_strategy

METRIC = "val_accuracy"


def model(kind: str, trials: int) -> StrategyModel:
    """The strategy with the defaults that a budget of so many trials of the search settles."""
    document: dict[str, Any] = {"type": kind}
    if kind == "Evolution":
        document["evolution"] = EvolutionStrategy().sized(trials).model_dump()
    return StrategyModel.model_validate(document)


def play(kind: str, trials: int, share: float, seed: int) -> ReportData:
    """One search with its control, as the report has it."""
    where = space(True)
    members = {
        each: (make_strategy(made, where, own), History(), own)
        for each, made, own in (
            (
                Kind.SEARCH,
                model(kind, round(trials * (1 - share))),
                derive(seed, Stream.STRATEGY),
            ),
            (Kind.CONTROL, model("Random", trials), derive(seed, Stream.CONTROL)),
        )
    }
    found: list[ReportTrial] = []
    for number in range(trials):
        owed = owes_control(number, len(members[Kind.CONTROL][1].asked), share)
        which = Kind.CONTROL if owed else Kind.SEARCH
        strategy, history, own = members[which]
        proposal = strategy.propose(history, derive_rng(own, 0, len(history.asked)))
        assert proposal is not None
        architecture = proposal.architecture
        trial = Trial(number, architecture, where.key(architecture), proposal.parents)
        history.ask(trial)
        strategy.asked(trial, history)
        value = table()[to_nasbench201(architecture)][FULL] / 100
        history.tell(number, Outcome.SUCCEEDED, (-value,))
        strategy.observe(trial, history)
        found.append(
            ReportTrial(
                number=number,
                kind=which,
                outcome=Outcome.SUCCEEDED,
                architecture=architecture,
                key=trial.key,
                metrics={METRIC: value},
                cost=Cost(epochs=FULL),
                fidelity="",
                parents=trial.parents,
                order=number,
            )
        )
    return ReportData(
        name="verdict",
        namespace="bench",
        phase="Succeeded",
        reason="",
        metric=METRIC,
        goal="maximize",
        target=None,
        also=(),
        summary=(),
        trials=tuple(found),
        winner=None,
        cost={},
        budget=(),
        protocol=(),
        validation=INFO.validation,
    )


def words(kind: str, trials: int, share: float, seeds: int) -> Counter[str]:
    """How often each word is said."""
    found = (verdict(play(kind, trials, share, seed)) for seed in range(seeds))
    return Counter("nothing" if each is None else each.word for each in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    arguments = parser.parse_args()
    for share in (0.2, 0.5):
        for kind in ("Random", "Evolution", "LocalSearch"):
            for trials in (100, 150, 300):
                said = words(kind, trials, share, arguments.seeds)
                rates = {word: f"{count / arguments.seeds:.1%}" for word, count in said.items()}
                print(f"control {share:g}, {kind}, {trials} trials: {rates}", flush=True)


if __name__ == "__main__":
    main()

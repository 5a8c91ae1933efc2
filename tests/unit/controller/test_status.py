from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from kinase.api import Kind, Outcome, TrialJob
from kinase.api.experiment import NASExperiment
from kinase.api.status import (
    MAX_ARCHITECTURE,
    MAX_FRONT,
    MAX_STATUS,
    ConditionType,
    ExperimentStatus,
    Phase,
    WeightsStatus,
)
from kinase.experiment.budget import Limit
from kinase.experiment.loop import Loop
from kinase.experiment.state import SEARCHING
from kinase.experiment.trial_record import TrialRecord
from kinase.store.memory import MemoryStore
from kinase_controller.status import (
    Summary,
    conditions,
    document,
    incumbent,
    limit_text,
    pending,
    phase,
)
from kinase_controller.trials import Seen
from tests.unit.experiment.helpers import INFO, experiment, make_loop, score
from tests.unit.experiment.test_inheritance import SIZE, Trainer, manifest
from tests.unit.experiment.test_rungs import CurveEngine, falling, stopping
from tests.unit.experiment.test_stretches import learnt
from tests.unit.experiment.test_stretches import manifest as ladder

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def best_of(loop: Loop, *kinds: Kind) -> TrialRecord | None:
    """The first of the best, by the objectives in their order."""
    told = [t for t in loop.state.told if t.kind in kinds and math.isfinite(loop.losses(t)[0])]
    return min(told, key=loop.losses, default=None)


def front_of(loop: Loop) -> list[TrialRecord]:
    """The trials of the search that no other is as good as in all and better in one."""
    told = [t for t in loop.state.told if t.kind in SEARCHING]
    told = [t for t in told if all(map(math.isfinite, loop.losses(t)))]

    def dominated(trial: TrialRecord) -> bool:
        mine = loop.losses(trial)
        return any(
            all(a <= b for a, b in zip(loop.losses(o), mine, strict=True))
            and loop.losses(o) != mine
            for o in told
        )

    return [t for t in told if not dominated(t)]


def compare(loop: Loop, fields: ExperimentStatus) -> None:
    """What the status says is what the state says, looked at from scratch."""
    state, spec = loop.state, loop.spec
    metric = spec.objective.metric
    searched = [t for t in state.trials.values() if t.kind in SEARCHING]
    ended = [t for t in searched if t.outcome is not None]
    counts = fields.trials
    assert counts is not None
    assert counts.total == len(searched)
    assert counts.running == len(loop.engine.running())
    assert counts.control == sum(t.kind is Kind.CONTROL for t in searched)
    for outcome in Outcome:
        said = getattr(counts, outcome.value.lower())
        assert said == sum(t.outcome is outcome for t in ended), outcome
    assert fields.progress == f"{len(ended)}/{spec.budget.trials}"
    for said, kinds in ((fields.best, SEARCHING), (fields.control, (Kind.CONTROL,))):
        expected = best_of(loop, *kinds)
        assert (said and said.trial) == (expected and expected.number)
        if said is not None and expected is not None:
            assert said.value == float(f"{expected.values[metric]:.6g}")
            assert said.architecture == expected.architecture
    assert fields.cost is not None
    assert fields.cost.epochs == sum(t.cost.epochs for t in state.told)
    front = front_of(loop) if spec.objective.also else []
    assert len(fields.front) == min(MAX_FRONT, len(front))
    assert {p.trial for p in fields.front} <= {t.number for t in front}
    limits = {limit.name: limit for limit in fields.budget}
    assert limits["trials"].spent == len(searched)
    assert limits["trials"].left == limits["trials"].total - len(searched)


class Watcher:
    """Compares at every turn of the loop and at every end of a trial."""

    def __init__(self) -> None:
        self.summary: Summary | None = None
        self.phases: list[Phase] = []
        self.looked = 0

    def _look(self, loop: Loop) -> None:
        if self.summary is None:
            self.summary = Summary(loop)
        compare(loop, self.summary.fields())
        compare(loop, Summary(loop).fields())
        self.looked += 1
        if not self.phases or self.phases[-1] is not phase(loop):
            self.phases.append(phase(loop))

    def started(self, loop: Loop) -> None:
        self._look(loop)

    def progressed(self, loop: Loop, trial: int, point: Any) -> None:
        self._look(loop)

    def told(self, loop: Loop, trial: TrialRecord) -> None:
        self._look(loop)

    def rested(self, loop: Loop, trial: TrialRecord) -> None:
        self._look(loop)

    def tick(self, loop: Loop) -> None:
        self._look(loop)


def uneven(job: TrialJob) -> dict[str, float]:
    """Some have no value at all, some only one."""
    match job.trial % 7:
        case 3:
            return {}
        case 5:
            return {"val_accuracy": score(job)["val_accuracy"]}
    return score(job)


@pytest.mark.parametrize("also", [[], [{"metric": "params", "goal": "minimize"}]])
@pytest.mark.parametrize("slots", [1, 4])
def test_the_summary_is_that_of_the_state_at_every_moment_of_a_run(
    also: list[dict[str, str]], slots: int
) -> None:
    manifest = experiment(
        objective={"also": also},
        budget={"trials": 40, "parallelism": slots},
        control={"share": 0.3},
    )
    watcher = Watcher()
    loop = make_loop(manifest, slots=slots, evaluate=uneven, listener=watcher)
    loop.run()
    assert watcher.looked > 80
    fields = Summary(loop).fields()
    assert loop.state.finished is not None
    assert fields.winner is not None
    assert fields.winner.trial == loop.state.finished.winner
    assert [*watcher.phases, phase(loop)] == [
        Phase.SEARCHING,
        Phase.FINALISTS,
        Phase.SUCCEEDED,
    ]


def test_a_summary_made_after_a_restart_is_the_same() -> None:
    manifest = experiment(objective={"also": [{"metric": "params", "goal": "minimize"}]})
    store = MemoryStore()
    first = make_loop(manifest, store)
    first.run()
    again = make_loop(manifest, store)
    again.replay()
    assert Summary(again).fields() == Summary(first).fields()


def test_what_is_kept_for_children_is_stated_in_bytes() -> None:
    seen: list[WeightsStatus | None] = []

    class Looker:
        def __getattr__(self, name: str) -> Any:
            return lambda loop, *rest: seen.append(Summary(loop).fields().weights)

    store = MemoryStore()
    loop = make_loop(
        manifest(), store, engine=Trainer(store), trainer_results=True, listener=Looker()
    )
    loop.run()
    searched = sum(1 for t in loop.state.of_kind(Kind.SEARCH))
    assert Summary(loop).fields().weights == WeightsStatus(written=SIZE * searched, kept=0)
    most = max((w for w in seen if w is not None), key=lambda w: w.kept)
    assert 0 < most.kept < most.written
    assert Summary(make_loop(experiment())).fields().weights is None


def test_an_infeasible_network_is_counted_and_never_stands_out() -> None:
    chain = {"minDepth": 6, "maxDepth": 6, "strides": [2], "kernels": [3]}
    loop = make_loop(
        experiment(space={"type": "Chain", "chain": chain}, budget={"trials": 5}),
    )
    loop.run()
    fields = Summary(loop).fields()
    assert fields.trials is not None
    assert fields.trials.infeasible == 5
    assert (fields.best, fields.control, fields.winner) == (None, None, None)
    assert phase(loop) is Phase.FAILED


def by_size(job: TrialJob) -> dict[str, float]:
    """The larger the better, so that of several sizes none dominates another."""
    size = sum(layer["width"] for layer in job.architecture["layers"])
    return {"val_accuracy": 1 - 1 / (1 + size + job.trial / 1000), "val_loss": 1.0}


def test_a_long_front_keeps_both_ends_and_its_order() -> None:
    chain = {"maxDepth": 6, "widths": [4, 5, 6, 7, 8, 9, 11, 13, 17, 19, 23, 29], "ops": ["conv"]}
    manifest = experiment(
        objective={"also": [{"metric": "val_loss", "goal": "minimize"}]},
        space={"type": "Chain", "chain": chain},
        strategy={"type": "Random"},
        budget={"trials": 150},
    )

    def evaluate(job: TrialJob) -> dict[str, float]:
        value = by_size(job)["val_accuracy"]
        return {"val_accuracy": value, "val_loss": value}

    loop = make_loop(manifest, evaluate=evaluate)
    loop.run()
    front = sorted(front_of(loop), key=loop.losses)
    assert len(front) > 2 * MAX_FRONT
    points = Summary(loop).fields().front
    assert len(points) == MAX_FRONT
    assert (points[0].trial, points[-1].trial) == (front[0].number, front[-1].number)
    places = [[t.number for t in front].index(p.trial) for p in points]
    assert places == sorted(set(places))
    gaps = {b - a for a, b in pairwise(places)}
    assert max(gaps) - min(gaps) <= 1, "evenly along the front"


def test_the_largest_status_of_a_run_is_below_its_bound() -> None:
    names = [f"{'m' * 38}{i:02d}" for i in range(30)]
    chain = {"maxDepth": 48, "minDepth": 40, "widths": list(range(100, 124))}
    manifest = NASExperiment.model_validate(
        {
            **experiment().model_dump(mode="json", by_alias=True, exclude_none=True),
            "spec": {
                "task": {"type": "Mine", "dataset": "mine"},
                "space": {"type": "Chain", "chain": {**chain, "strides": [1]}},
                "strategy": {"type": "Random"},
                "objective": {
                    "metric": names[0],
                    "goal": "maximize",
                    "also": [{"metric": name, "goal": "minimize"} for name in names[1:5]],
                },
                "budget": {
                    "trials": 60,
                    "epochs": 10**9,
                    "deviceHours": 1e7,
                    "duration": "1000h",
                },
                "training": {"epochs": 2},
            },
        }
    )

    def evaluate(job: TrialJob) -> dict[str, float]:
        value = math.pi * 1e100 * (job.trial + 1)
        return {name: value if i else -value for i, name in enumerate(names)} | {
            names[0]: value,
            "Not A Name!": 1.0,
        }

    loop = make_loop(manifest, evaluate=evaluate, info=INFO.model_copy(update={"metrics": ()}))
    loop.run()
    fields = Summary(loop).fields()
    assert len(fields.front) == MAX_FRONT
    assert fields.best is not None
    text = "“Ünïcödé” " * 1000
    whole = fields.model_copy(
        update={
            "phase": phase(loop),
            "start_time": NOW,
            "completion_time": NOW,
            "report": "s3://" + "r" * 1275,
            "model": "s3://" + "m" * 1275,
            "conditions": conditions(
                {}, 2**53, NOW, dict.fromkeys(ConditionType, (True, "R" * 64, text))
            ),
        }
    )
    said = json.dumps(document(whole)).encode()
    assert len(said) < MAX_STATUS
    assert ExperimentStatus.model_validate_json(said)


def test_an_architecture_too_large_for_a_status_is_left_out_of_it() -> None:
    loop = make_loop(experiment())
    loop.run()
    trial = next(iter(loop.state.told))
    small = incumbent(trial, "val_accuracy")
    assert small is not None
    assert small.architecture == trial.architecture
    trial.architecture = {"layers": "x" * MAX_ARCHITECTURE}
    large = incumbent(trial, "val_accuracy")
    assert large is not None
    assert (large.trial, large.architecture) == (trial.number, None)


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    def said(before: dict[str, Any], true: bool, later: int, message: str) -> dict[str, Any]:
        now = NOW + timedelta(seconds=later)
        wanted = {ConditionType.PROGRESSING: (true, "Why", message)}
        [found] = conditions(before, later, now, wanted)
        status = document(ExperimentStatus(conditions=(found,)))
        return {"conditions": status["conditions"]}

    first = said({}, True, 0, "a")
    again = said(first, True, 10, "b")
    turned = said(again, False, 20, "c")
    times = [s["conditions"][0]["lastTransitionTime"] for s in (first, again, turned)]
    assert times == ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:25Z"]
    assert again["conditions"][0]["message"] == "b"
    assert again["conditions"][0]["observedGeneration"] == 10


def test_what_is_left_is_told_in_the_limit_s_own_unit() -> None:
    assert limit_text(Limit("trials", "", 3, 10)) == "7 trials"
    assert limit_text(Limit("epochs", "", 30, 20)) == "0 epochs"
    assert limit_text(Limit("deviceHours", "h", 0.5, 2)) == "1.50 device hours"
    assert limit_text(Limit("duration", "s", 30, 3690)) == "1:01:00"


def test_what_all_trials_wait_for_is_said_in_the_first_ones_words() -> None:
    def seen(number: int, reason: str, message: str = "") -> Seen:
        status = {"phase": "Pending", "attempt": 1, "reason": reason, "message": message}
        metadata = {"name": f"toy-{number:05d}", "uid": "x", "resourceVersion": "1"}
        spec = {"number": number, "kind": "Search", "attempt": 1, "job": "{}"}
        return Seen.of({"metadata": metadata, "spec": spec, "status": status})

    one, two = seen(3, "Unschedulable", "0/1 nodes"), seen(4, "BackOff")
    assert pending(0, []) is None
    assert pending(3, [one, two]) is None, "one runs"
    assert pending(2, [one, two]) == (
        "all 2 trials under way wait: toy-00003: Unschedulable: 0/1 nodes"
    )
    assert pending(1, [two]) == "the trial waits: toy-00004: BackOff"


def test_a_search_on_a_ladder_says_how_trials_stand_at_each_rung() -> None:
    watcher = Rungs()
    loop = make_loop(ladder(budget={"trials": 24}), evaluate=falling, listener=watcher)
    loop.run()
    fields = Summary(loop).fields()
    assert [rung.rung for rung in fields.rungs] == [0, 1, 2]
    assert fields.best is not None
    assert (fields.best.rung, fields.best.trial) == (2, loop.best and loop.best.number)
    assert sum(rung.epochs for rung in fields.rungs) == sum(
        t.cost.epochs for t in loop.state.of_kind(*SEARCHING)
    )
    assert watcher.most_paused > 3
    assert Summary(make_loop(experiment())).fields().rungs == ()
    said = json.loads(json.dumps(document(fields)))
    assert ExperimentStatus.model_validate(said).rungs == fields.rungs


class Rungs:
    """Compares the rungs with the counts of trials at each turn."""

    most_paused = 0

    def __getattr__(self, name: str) -> Any:
        return self._look

    def _look(self, loop: Loop, *_: Any) -> None:
        fields = Summary(loop).fields()
        assert fields.trials is not None
        paused = sum(rung.paused for rung in fields.rungs)
        assert paused == fields.trials.paused == loop.state.resting
        self.most_paused = max(self.most_paused, paused)


def test_the_best_of_the_control_is_of_its_highest_rung() -> None:
    loop = make_loop(ladder(budget={"trials": 40}, control={"share": 0.5}), evaluate=falling)
    loop.run()
    control = Summary(loop).fields().control
    assert control is not None
    best = min(loop.state.of_kind(Kind.CONTROL), key=loop.rank)
    assert (control.trial, control.rung) == (best.number, best.rung)
    assert best.rung > 0


def test_a_rule_that_stops_trials_says_what_it_did() -> None:
    loop = make_loop(stopping(0.5), engine=CurveEngine(learnt))
    loop.run()
    found, said = loop.leaders.calibration, Summary(loop).fields().stopping
    assert found is not None
    assert said is not None
    assert (said.stopped, said.spared, said.won) == (found.stopped, found.spared, found.won)
    assert said.stopped > 0

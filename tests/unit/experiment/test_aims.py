"""Which way each objective of a search is better, and what is refused before it begins."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from kinase.api.load import ManifestError
from kinase.api.objective import TASK_METRICS, Aim, Objective, Undirected, aims, goal_of
from kinase.api.trial import Kind, Outcome, TrialJob
from kinase.experiment import identity
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, experiment, make_loop, score

OWN = {"type": "Translation", "dataset": "mine"}


def measured(job: TrialJob) -> dict[str, float]:
    """An accuracy, and a loss that falls where it rises."""
    accuracy = score(job)["val_accuracy"]
    return {"val_accuracy": accuracy, "val_loss": 1 - accuracy}


@pytest.mark.parametrize(
    ("metric", "goal"),
    [
        ("val_accuracy", "maximize"),
        ("val_loss", "minimize"),
        ("params", "minimize"),
        ("macs", "minimize"),
        ("val_bleu", None),
    ],
)
def test_a_metric_has_a_direction(metric: str, goal: str | None) -> None:
    assert goal_of("Classification", metric) == goal


def test_every_metric_of_our_tasks_has_one() -> None:
    for task, known in TASK_METRICS.items():
        for metric in known:
            assert aims(Objective(metric=metric), task)[0].goal == known[metric].goal


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy"])
def test_the_best_network_wins_whatever_the_metric(metric: str) -> None:
    loop = make_loop(experiment(objective={"metric": metric}), evaluate=measured)
    state = loop.run()
    best = max(state.of_kind(Kind.SEARCH, Kind.CONTROL), key=lambda t: t.metrics["val_accuracy"])
    assert loop.best is not None
    assert loop.best.metrics == best.metrics
    assert state.finished is not None
    winner = state.trials[state.finished.winner or 0]
    assert winner.metrics["val_accuracy"] == max(
        t.metrics["val_accuracy"] for t in state.of_kind(Kind.FINAL)
    )


def test_a_loss_reaches_its_target_from_above() -> None:
    manifest = experiment(objective={"metric": "val_loss", "target": 0.15}, budget={"trials": 500})
    state = make_loop(manifest, evaluate=measured).run()
    assert state.ended == "the target 0.15 is reached"
    *before, last = state.of_kind(Kind.SEARCH, Kind.CONTROL)
    assert last.metrics["val_loss"] <= 0.15
    assert all(t.metrics["val_loss"] > 0.15 for t in before)


def test_a_further_accuracy_is_maximized() -> None:
    found = aims(
        Objective.model_validate(
            {"metric": "val_loss", "also": [{"metric": "val_accuracy", "enough": 0.9}]}
        ),
        "Classification",
    )
    assert found == (Aim("val_loss", "minimize"), Aim("val_accuracy", "maximize", 0.9))


def test_the_smallest_network_wins_where_parameters_are_the_objective() -> None:
    manifest = experiment(objective={"metric": "params", "also": [{"metric": "val_accuracy"}]})
    loop = make_loop(manifest)
    state = loop.run()
    sizes = [t.resources["params"] for t in state.of_kind(Kind.SEARCH, Kind.CONTROL)]
    assert state.finished is not None
    assert state.trials[state.finished.winner or 0].resources["params"] == min(sizes)


def test_a_network_that_measured_nothing_is_the_worst_however_small() -> None:
    manifest = experiment(objective={"metric": "params"})
    loop = make_loop(manifest, evaluate=lambda job: {} if job.trial % 2 else score(job))
    state = loop.run()
    good = [t for t in state.of_kind(Kind.SEARCH, Kind.CONTROL) if t.metrics]
    assert len(good) < sum(t.kind in (Kind.SEARCH, Kind.CONTROL) for t in state.told)
    assert loop.best is not None
    assert loop.best.resources["params"] == min(t.resources["params"] for t in good)
    assert all(t.outcome is Outcome.SUCCEEDED for t in state.told)


def test_a_number_of_parameters_is_a_target() -> None:
    manifest = experiment(objective={"metric": "params", "target": 10**9}, budget={"trials": 50})
    state = make_loop(manifest).run()
    assert state.ended == "the target 1e+09 is reached"
    assert state.searched == 1


# -- tasks of others -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "told", "goal"),
    [
        ({"goal": "maximize"}, {}, "maximize"),
        ({"goal": "minimize"}, {}, "minimize"),
        ({}, {"val_bleu": "maximize"}, "maximize"),
        ({"goal": "maximize"}, {"val_bleu": "maximize"}, "maximize"),
    ],
)
def test_another_tasks_metric_goes_as_the_manifest_or_the_trainer_says(
    objective: dict[str, Any], told: dict[str, Any], goal: str
) -> None:
    manifest = experiment(task=OWN, objective={"metric": "val_bleu", **objective})
    info = INFO.model_copy(update={"metrics": ("val_bleu",), "goals": told})
    assert make_loop(manifest, info=info).aims == (Aim("val_bleu", goal),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("objective", "told", "said"),
    [
        (
            {"metric": "val_bleu"},
            {},
            "spec.objective.goal: is missing: neither task.type Translation nor its trainer "
            "declares the direction of val_bleu; set it to maximize or minimize",
        ),
        (
            {"metric": "params", "also": [{"metric": "val_bleu"}]},
            {"val_ter": "minimize"},
            "spec.objective.also[0].goal: is missing",
        ),
        (
            {"metric": "val_bleu", "goal": "minimize"},
            {"val_bleu": "maximize"},
            "spec.objective.goal: minimize contradicts the trainer, which says maximize "
            "for val_bleu",
        ),
    ],
)
def test_a_direction_is_never_guessed(
    objective: dict[str, Any], told: dict[str, Any], said: str
) -> None:
    manifest = experiment(task=OWN, objective=objective)
    info = INFO.model_copy(update={"metrics": ("val_bleu",), "goals": told})
    with pytest.raises(ManifestError) as error:
        make_loop(manifest, info=info)
    assert said in str(error.value)


def test_a_task_of_ours_stands_above_its_trainer() -> None:
    found = aims(Objective(metric="val_loss"), "Classification", {"val_loss": "maximize"})
    assert found[0].goal == "minimize"


def test_the_trainer_may_say_that_a_tangent_does_not_serve() -> None:
    manifest = experiment(task=OWN, objective={"metric": "val_ter"}, strategy={"type": "EAS"})
    info = INFO.model_copy(update={"metrics": ("val_ter",), "goals": {"val_ter": "minimize"}})
    with pytest.raises(
        ManifestError, match=r"spec\.strategy\.eas\.reward: tan requires an accuracy"
    ):
        make_loop(manifest, info=info)


def test_what_no_trial_measures_is_refused_before_the_first() -> None:
    manifest = experiment(task=OWN, objective={"metric": "val_blue", "goal": "maximize"})
    info = INFO.model_copy(update={"metrics": ("val_bleu",)})
    loop = make_loop(manifest, info=info)
    with pytest.raises(ManifestError, match=r"'val_blue' is not measured by this task; it measur"):
        loop.run()
    assert not loop.state.trials


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"supports": ("until",)},
            "Full with screen requires a trainer that supports measure; this one supports un",
        ),
        ({"proxies": ("snip", "zen")}, r"screen\.proxies\[1\]: 'nwot' is not a zero-cost proxy of"),
    ],
)
def test_what_the_trainer_does_not_know_is_refused_before_the_first(
    changes: dict[str, Any], message: str
) -> None:
    screen = {"proxies": ["snip", "nwot"], "pool": 2}
    loop = make_loop(
        experiment(estimation={"type": "Full", "screen": screen}),
        info=INFO.model_copy(update=changes),
    )
    with pytest.raises(ManifestError, match=message):
        loop.run()
    assert not loop.state.trials


def test_an_undirected_metric_names_its_field() -> None:
    error = Undirected("objective.goal", "is not set")
    assert (str(error), error.field) == ("objective.goal is not set", "objective.goal")


# -- experiments of earlier versions -------------------------------------------------------


def record(store: MemoryStore, **objective: Any) -> None:
    """Claim a place as an earlier version did, which wrote every goal and knew fewer fields."""
    identity.claim(store, experiment())
    document = json.loads(store.get(identity.KEY))
    document["spec"]["objective"].update(objective)
    del document["spec"]["control"]["share"]
    del document["spec"]["seed"]
    store.put(identity.KEY, json.dumps(document).encode())


@pytest.mark.parametrize("objective", [{}, {"goal": "maximize"}])
def test_a_goal_left_out_is_the_recorded_one(objective: dict[str, Any]) -> None:
    store = MemoryStore()
    record(store, goal="maximize")
    identity.agree(store, experiment(objective=objective))
    document = json.loads(store.get(identity.KEY))
    assert "share" not in document["spec"]["control"], "the record is as it was"


def test_a_search_for_the_greatest_loss_is_another_one() -> None:
    store = MemoryStore()
    record(store, metric="val_loss", goal="maximize")
    with pytest.raises(identity.MismatchError, match=r"goal is \"maximize\" there and \"minimize"):
        identity.agree(store, experiment(objective={"metric": "val_loss"}))


def test_what_auto_means_for_the_trainer_must_be_paid_for() -> None:
    """A ladder would begin with one epoch."""
    manifest = experiment(estimation={}, training={"epochs": 9}, budget={"epochs": 26})
    message = (
        "budget.epochs 26 is too small: one trial takes 9 and finalists and baselines take 2 x 9 = "
        "18; it must be at least 27 (this trainer cannot pause, so the estimation type Auto means "
        "Full)"
    )
    loop = make_loop(manifest, info=INFO.model_copy(update={"supports": ()}))
    with pytest.raises(ManifestError, match=re.escape(message)):
        loop.run()
    assert not loop.state.trials
    make_loop(manifest).run()

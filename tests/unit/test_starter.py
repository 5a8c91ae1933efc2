"""What `kinase init` proposes, and the text that it writes."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.experiment import NASExperiment
from kinase.api.load import parse_document
from kinase.api.look import Look
from kinase.experiment.check import checked
from kinase.space import Frame, make_space
from kinase.starter import CannotPlan, Wishes, manifest, plan
from kinase.starter.text import name_of


def look(**changes: Any) -> Look:
    values: dict[str, Any] = {
        "dataset": "folder",
        "path": "/data/my pets",
        "channels": 3,
        "height": 300,
        "width": 400,
        "fixed": False,
        "samples": 3000,
        "train": 1800,
        "outputs": 5,
        "smallest": 500,
        "largest": 700,
        "slots": 2,
    }
    return Look.model_validate({**values, **changes})


def proposed(found: Look, wishes: Wishes | None = None) -> NASExperiment:
    text = manifest(plan(found, wishes or Wishes()), "pets", "pets.yaml")
    return checked(parse_document("pets.yaml", text.encode()))


SMALL = {"height": 8, "width": 8, "fixed": True, "dataset": "digits", "path": None, "channels": 1}


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("seconds", [1.0, 60.0, 1800.0, 86400.0])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        SMALL,
        {"samples": 10, "train": 4, "outputs": 2},
        {"samples": 10**6, "train": 600_000},
        {"task": "MultiLabel", "labels": "a b.csv"},
        {"task": "Regression", "dataset": "npz", "smallest": 0, "largest": 0},
    ],
    ids=["pets", "digits", "few", "many", "labels", "numbers"],
)
def test_what_is_proposed_is_valid(device: str, seconds: float, changes: dict[str, Any]) -> None:
    found = look(**{"device": device, **changes})
    spec = proposed(found, Wishes(seconds=seconds)).spec
    assert spec.budget.duration is not None
    assert 0 < spec.budget.duration.total_seconds() <= max(1, seconds)
    assert 2 <= spec.training.batch_size <= max(2, found.train)
    assert spec.task.path == found.path
    assert spec.task.type == found.task
    assert (spec.task.folder.labels if spec.task.folder else None) == found.labels
    assert spec.search_epochs <= spec.final_epochs


@pytest.mark.parametrize("most", [2_000, 10_000, 50_000, 400_000])
def test_every_network_of_the_space_has_so_many_parameters_at_most(most: int) -> None:
    found = look(**SMALL, outputs=10)
    chosen = plan(found, Wishes(max_params=most))
    assert chosen.largest <= most
    assert chosen.largest > most / 4
    space = make_space(proposed(found, Wishes(max_params=most)).spec.space)
    layer = {"op": "conv", "width": max(chosen.widths), "kernel": max(chosen.kernels), "stride": 1}
    frame = Frame((1, 8, 8), 10, space.scale(final=True))
    graph = space.graph({"layers": [layer] * chosen.depth}, frame)
    assert graph.params() == chosen.largest


def test_too_few_parameters() -> None:
    with pytest.raises(CannotPlan, match=r"has 20 parameters or fewer with 3 channels and 5 cl"):
        plan(look(), Wishes(max_params=20))


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({}, 64),
        ({"device": "cuda"}, 128),
        ({"height": 20, "width": 24}, 24),
        ({"height": 5, "width": 5}, 8),
        ({"dataset": "npz", "fixed": True, "height": 28, "width": 28}, None),
        ({"dataset": "npz", "fixed": True, "height": 500, "width": 400}, 64),
    ],
)
def test_the_resolution_follows_the_images_and_the_device(
    changes: dict[str, Any], side: int | None
) -> None:
    assert plan(look(**changes), Wishes()).side == side
    assert plan(look(**changes), Wishes(resolution=40)).side == 40


def test_less_time_makes_cheaper_candidates_and_then_random_search() -> None:
    found = look(samples=20_000, train=12_000)
    month, day, minute = (plan(found, Wishes(seconds=s)) for s in (30 * 86_400, 86_400, 60))
    assert month.low_epochs == month.epochs
    assert month.population == 30
    assert "type: Full" in manifest(month, "pets", "pets.yaml")
    assert day.low_epochs < day.epochs / 4
    spec = proposed(found, Wishes(seconds=86_400)).spec
    assert spec.estimation.type == "ASHA"
    assert spec.training.epochs == day.epochs
    assert minute.population is None
    assert minute.fraction == 0.25
    assert "type: Random" in manifest(minute, "pets", "pets.yaml")
    assert "type: LowerFidelity" in manifest(minute, "pets", "pets.yaml")


def test_the_time_for_a_candidate_in_rungs_is_the_mean() -> None:
    found = look(samples=20_000, train=12_000)
    chosen = plan(found, Wishes(seconds=86_400))
    asha = proposed(found, Wishes(seconds=86_400)).spec
    assert chosen.low_epochs == asha.epochs_for(1) - asha.epochs_for(0)
    assert chosen.trials == pytest.approx(0.75 * 86_400 * 2 / chosen.trial_seconds, abs=1)


def test_a_metric_that_is_not_known() -> None:
    with pytest.raises(
        CannotPlan, match=r"metric 'auc' is not one of task.type Class.*; use one of val_accuracy"
    ):
        plan(look(), Wishes(metric="auc"))
    assert proposed(look(), Wishes(metric="val_loss")).spec.objective.metric == "val_loss"


def test_the_task_decides_what_is_optimized_and_how_it_is_trained() -> None:
    chosen = {
        task: proposed(look(task=task, smallest=1)).spec
        for task in ("Classification", "MultiLabel", "Regression")
    }
    assert [spec.objective.metric for spec in chosen.values()] == [
        "val_balanced_accuracy",
        "val_map",
        "val_rmse",
    ]
    assert [spec.training.label_smoothing for spec in chosen.values()] == [0.05, 0, 0]
    assert [spec.training.augmentation.crop for spec in chosen.values()] == [8, 8, 0]
    text = manifest(plan(look(task="Regression", outputs=2), Wishes()), "pets", "pets.yaml")
    assert "for 3,000 images of 3x300x400 (the median size) with 2 numbers each." in text
    with pytest.raises(CannotPlan, match=r"'val_accuracy' is not one of task.type Regression; use"):
        plan(look(task="Regression"), Wishes(metric="val_accuracy"))


def test_uneven_classes_are_named() -> None:
    text = manifest(plan(look(smallest=10), Wishes()), "pets", "pets.yaml")
    assert "# The classes are uneven: 10 to 700 samples." in text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/My Pets/", "my-pets"),
        ("a.npz", "a"),
        ("digits", "digits"),
        ("/data/ä", "search"),
        ("x" * 80, "x" * 46),
    ],
)
def test_names_follow_the_data(path: str, name: str) -> None:
    assert name_of(path) == name

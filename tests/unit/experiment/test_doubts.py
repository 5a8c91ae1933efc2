"""What is allowed and probably not meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kinase.api._base import struct_name
from kinase.experiment.doubts import INHERITING, doubts
from kinase.validation import validate_files
from tests.unit.experiment.helpers import INFO, experiment

MANIFEST = """
apiVersion: kinase.dev/v1alpha1
kind: NASExperiment
metadata: {{name: doubt}}
spec:
  space: {{type: {space}}}
  objective: {{metric: val_accuracy, also: [{{metric: params}}]}}
  strategy: {{type: {strategy}}}
  estimation: {{type: {estimation}}}
  budget: {{trials: 10}}
"""


@pytest.mark.parametrize("strategy", [*INHERITING, "Random"])
@pytest.mark.parametrize("estimation", ["Full", "Morphism"])
def test_children_that_inherit_nothing_are_doubted(
    tmp_path: Path, strategy: str, estimation: str
) -> None:
    file = tmp_path / "doubt.yaml"
    space = "Tree" if strategy == "PathLevel" else "Chain"
    file.write_text(MANIFEST.format(space=space, strategy=strategy, estimation=estimation))
    code, lines = validate_files([file], data=False)
    assert code == 0, lines
    doubted = strategy != "Random" and estimation == "Full"
    warnings = [line for line in lines if "warning: " in line]
    assert len(warnings) == doubted
    if doubted:
        assert f"warning: strategy.type {strategy}" in warnings[0]
        assert "estimation.type Full" in warnings[0]
        assert "estimation: {type: Morphism}" in warnings[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "ASHA, chosen by the type Auto"),
        ("  trialTemplate: {command: [train]}\n", "Full, chosen by the type Auto"),
        ("  training: {epochs: 8}\n", "Full, chosen by the type Auto"),
        ("  estimation: {type: Full}\n", None),
        ("  strategy: {type: NASH}\n", "ASHA with inherit, chosen by the type Auto"),
    ],
)
def test_what_the_type_auto_means_is_said(tmp_path: Path, more: str, said: str | None) -> None:
    file = tmp_path / "auto.yaml"
    text = MANIFEST.replace(", also: [{{metric: params}}]", "")
    text = text.replace("  estimation: {{type: {estimation}}}\n", "")
    text = text.format(space="Chain", strategy="Random")
    if "strategy" in more:
        text = text.replace("  strategy: {type: Random}\n", "")
    file.write_text(text + more)
    code, lines = validate_files([file], data=False)
    assert code == 0, lines
    found = [line.removeprefix(f"{file}: ") for line in lines if "estimation:" in line]
    assert found == ([] if said is None else [f"estimation: {said}"])


def test_a_warm_up_beyond_the_training_is_doubted_and_not_refused(tmp_path: Path) -> None:
    """A search that began with it under an earlier version goes on."""
    file = tmp_path / "doubt.yaml"
    text = MANIFEST.format(space="Chain", strategy="Random", estimation="Full")
    file.write_text(text + "  training: {epochs: 3, warmupEpochs: 5}\n")
    code, lines = validate_files([file], data=False)
    assert code == 0
    assert (
        f"{file}: warning: training.warmupEpochs 5 is above training.epochs 3, so the learning "
        "rate never reaches learningRate; for a new experiment use at most 3"
    ) in lines


HALVING = {"training": {"epochs": 27}, "finalists": {"count": 1}}
"""Rungs of 1, 3, 9 and 27 epochs: a bracket of 27 candidates takes 27 + 9 * 2 + 3 * 6 + 18."""


@pytest.mark.parametrize(
    ("kind", "options", "budget", "said"),
    [
        ("SuccessiveHalving", {}, {"epochs": 108}, None),
        ("SuccessiveHalving", {}, {"trials": 27}, None),
        (
            "SuccessiveHalving",
            {},
            {"epochs": 107},
            "budget.epochs 107 leaves 80 for the search, and a bracket of "
            "estimation.successiveHalving takes 81: the first bracket begins with 26 candidates "
            "instead of 27; set budget.epochs to at least 108, or raise successiveHalving.least",
        ),
        (
            "Hyperband",
            {"horizon": "rung"},
            {"epochs": 60},
            "budget.epochs 60 leaves 33 for the search, and a bracket of estimation.hyperband "
            "takes 108: the first bracket begins with 12 candidates instead of 27; set "
            "budget.epochs to at least 135, or raise hyperband.least",
        ),
        (
            "Hyperband",
            {"axis": "data", "rungs": [0.1, 0.5]},
            {"trials": 8},
            "budget.trials 8 is below the 9 candidates with which a bracket of "
            "estimation.hyperband begins, so the first bracket is smaller; raise budget.trials, or "
            "list fewer hyperband.rungs",
        ),
        ("ASHA", {}, {"epochs": 30}, None),
        ("Hyperband", {"axis": "resolution", "least": 4}, {"epochs": 60}, None),
    ],
)
def test_a_budget_below_one_bracket_is_doubted(
    kind: str, options: Any, budget: Any, said: str | None
) -> None:
    estimation = {"type": kind, struct_name(kind): options}
    spec = experiment(**HALVING, estimation=estimation, budget=budget).spec
    assert list(doubts(spec)) == ([] if said is None else [said])


@pytest.mark.parametrize("field", ["every", "after"])
def test_a_rule_that_comes_too_late_is_doubted(field: str) -> None:
    def said(value: int) -> list[str]:
        estimation = {"type": "Full", "stopping": {"type": "Median", field: value}}
        return list(doubts(experiment(training={"epochs": 4}, estimation=estimation).spec))

    assert said(3) == []
    assert said(4) == [
        f"estimation.stopping.{field} 4 is not below training.epochs 4, so no trial is stopped by "
        "its learning curve; lower it"
    ]


@pytest.mark.parametrize(
    ("estimation", "said"),
    [
        ({"type": "ASHA", "inherit": {}}, None),
        ({"type": "ASHA"}, "estimation.inherit: {}"),
        ({"type": "ASHA", "asha": {"axis": "data", "least": 0.1}}, "estimation: {type: Morphism}"),
    ],
)
def test_children_under_a_ladder(estimation: Any, said: str | None) -> None:
    spec = experiment(training={"epochs": 9}, strategy={"type": "NASH"}, estimation=estimation).spec
    found = list(doubts(spec))
    assert len(found) == (said is not None)
    if said is not None:
        assert f"each is trained from scratch; set {said} to have" in found[0]


@pytest.mark.parametrize(("trials", "doubted"), [(20, True), (21, False), (None, False)])
def test_a_rule_that_waits_for_more_trials_than_the_budget_is_doubted(
    trials: int | None, doubted: bool
) -> None:
    budget = {"deviceHours": 1} if trials is None else {"trials": trials}
    estimation = {"type": "Full", "stopping": {"type": "Baker"}}
    spec = experiment(training={"epochs": 9}, estimation=estimation, budget=budget).spec
    said = (
        "estimation.stopping.baker.trials 20 is not below budget.trials 20, so no trial is stopped "
        "by its learning curve; raise budget.trials, or lower baker.trials"
    )
    assert list(doubts(spec)) == ([said] if doubted else [])


def test_a_rule_for_a_single_epoch_is_doubted() -> None:
    estimation = {"type": "Full", "stopping": {"type": "Median"}}
    [said] = doubts(experiment(training={"epochs": 1}, estimation=estimation).spec)
    assert said.startswith("training.epochs is 1, so no trial is stopped by its learning curve")


@pytest.mark.parametrize(("first", "doubted"), [(3, False), (4, True)])
def test_children_that_do_not_pause_are_doubted(first: int, doubted: bool) -> None:
    estimation = {"type": "ASHA", "inherit": {"firstEpochs": first}}
    spec = experiment(training={"epochs": 9}, estimation=estimation).spec
    said = (
        "estimation.inherit.firstEpochs 4 is above 3, the epochs of a child, so children do not "
        "pause; lower it, or raise inherit.epochsPerChild"
    )
    assert list(doubts(spec)) == ([said] if doubted else [])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"min": 16, "max": 2048}, "space.training.batchSize.max allows 2,048"),
        ({"values": [16, 4096]}, "space.training.batchSize.values allows 4,096"),
        ({"min": 16, "max": 64}, ""),
    ],
)
def test_batches_that_hold_more_than_the_data_are_doubted(sizes: dict[str, Any], said: str) -> None:
    spec = experiment(space={"type": "Chain", "training": {"batchSize": sizes}}).spec
    info = INFO.model_copy(update={"train": 1000})
    found = [each for each in doubts(spec, info) if "batchSize" in each]
    assert len(found) == bool(said)
    assert all(f"{said}, which is above the 1,000 training samples" in each for each in found)
    assert not any("batchSize" in each for each in doubts(spec)), "the data is not known"


@pytest.mark.parametrize(("space", "doubted"), [("Chain", True), ("Cell", False)])
def test_edges_of_cells_that_there_are_none_of_are_doubted(space: str, doubted: bool) -> None:
    spec = experiment(space={"type": space}, training={"dropPath": 0.2}).spec
    found = [each for each in doubts(spec) if "training.dropPath 0.2" in each]
    assert len(found) == doubted

"""What published one-shot searches on NAS-Bench-201 have derived, through a search here: each cell
is looked up in the benchmark's table."""

from __future__ import annotations

import statistics

import pytest

from bench.nasbench201 import table
from kinase.api import Kind, NASExperiment, TrialJob
from kinase.api.supernet import Derived
from kinase.engine.tabular import TabularEngine
from kinase.experiment.loop import Loop
from kinase.space.nasbench201 import from_nasbench201, to_nasbench201
from tests.unit.experiment.helpers import experiment, make_loop
from tests.unit.experiment.test_one_shot import KNOWS

SKIPS = (
    "|skip_connect~0|+|skip_connect~0|skip_connect~1|+"
    "|skip_connect~0|skip_connect~1|skip_connect~2|"
)
PUBLISHED = {
    # three runs each; first and second order of DARTS alike
    "DARTS": [SKIPS, SKIPS, SKIPS],
    "GDAS": [
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_1x1~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        "|avg_pool_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+"
        "|nor_conv_3x3~0|nor_conv_1x1~1|nor_conv_1x1~2|",
    ],
}
"""Cells on CIFAR-10 of Dong et al. (2021), as in the authors' list (`D-X-Y/AutoDL-Projects`,
exps/algos-v2/README.md)."""


def accuracy(job: TrialJob) -> dict[str, float]:
    """Of a cell trained for 200 epochs, in percent: also as a candidate's score, so that the
    supernet ranks like the table. That of the supernet itself is not known."""
    if job.supernet is not None:
        return {"val_accuracy": 0.0}
    return {"val_accuracy": table()[to_nasbench201(job.architecture)][200]}


def search(strategy: str, cell: str, candidates: int) -> Loop:
    manifest: NASExperiment = experiment(
        space={"type": "Cell", "cell": {"preset": "nasbench201"}},
        strategy={"type": strategy},
        estimation={"type": "OneShot", "oneShot": {"candidates": candidates}},
        budget={"epochs": 1000},
        finalists={"count": 1},
        control={"share": 0.5},
    )
    left = (Derived(architecture=from_nasbench201(cell)),)
    loop = make_loop(
        manifest, engine=TabularEngine(accuracy, KNOWS, derive=lambda job: left), info=KNOWS
    )
    loop.run()
    return loop


@pytest.mark.parametrize(("strategy", "mean"), [("DARTS", 39.98), ("GDAS", 89.35)])
def test_derived_cells_have_their_published_accuracies(strategy: str, mean: float) -> None:
    found = []
    for cell in PUBLISHED[strategy]:
        [derived] = search(strategy, cell, 1).state.of_kind(Kind.SEARCH)
        found.append(derived.metrics["val_accuracy"])
    assert statistics.fmean(found) == pytest.approx(mean, abs=0.005)


def test_where_choices_have_collapsed_the_controls_best_wins() -> None:
    loop = search("DARTS", SKIPS, 20)
    assert loop.state.finished is not None
    assert loop.state.finished.winner is not None
    winner = loop.state.trials[loop.state.finished.winner]
    found_by = loop.state.trials[winner.parents[0]]
    assert found_by.kind is Kind.CONTROL
    assert winner.metrics["val_accuracy"] > 85 > 39.98

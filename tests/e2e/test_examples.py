"""Every example runs: as it is written, but for a budget that a test can wait for, and in this
process, where torch is imported once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinase.api import Kind, NASExperiment, Outcome
from kinase.api._base import struct_name
from kinase.experiment.check import load_checked
from kinase.experiment.final_outputs import keep_final
from kinase.report import render
from kinase.report.gather import gather
from kinase.store import open_store
from tests.trainer.helpers import searched

EXAMPLES = Path(__file__).parents[2] / "examples"
FASHION = Path("/usr/share/datasets/fashion-mnist")


def shortened(path: Path, tmp_path: Path) -> NASExperiment:
    document = load_checked(path).model_dump(mode="json", by_alias=True, exclude_none=True)
    spec = document["spec"]
    spec["budget"] = {"trials": 4, "parallelism": 2}
    spec["training"]["epochs"] = 2
    if "morphism" in spec["estimation"]:
        spec["estimation"]["morphism"] |= {"epochsPerChild": 1, "distilEpochs": 1}
        if "evolution" in spec["strategy"]:
            spec["strategy"]["evolution"] |= {"population": 2, "sample": 1}
        for member in {"nash", "lemonade", "localSearch"} & set(spec["strategy"]):
            spec["strategy"][member]["initial"] = 1  # so that the second has a parent
        spec["budget"]["trials"] = 7  # be the first infeasible
    elif "lowerFidelity" in spec["estimation"]:
        spec["estimation"]["lowerFidelity"]["epochs"] = 1
    elif "oneShot" in spec["estimation"]:
        spec["estimation"]["oneShot"] |= {"epochs": 1, "candidates": 4}
    else:  # rungs of one epoch and of two
        kind = spec["estimation"]["type"]
        kind = "ASHA" if kind == "Auto" else kind
        spec["estimation"] = {"type": kind, struct_name(kind): {"eta": 2}}
    spec["finalists"] = {"count": 1, "epochs": 2}
    spec["objective"].pop("target", None)
    spec["control"] = {"share": 0.25}
    spec["storage"] = {"uri": f"file://{tmp_path}/runs"}
    spec["training"]["device"] = "cpu"
    if spec["task"]["dataset"] == "fashion-mnist":
        if not FASHION.is_dir():
            pytest.skip("Debian's package dataset-fashion-mnist is not installed")
        spec["estimation"]["lowerFidelity"]["dataFraction"] = 0.01
        spec["finalists"]["epochs"] = 1
        spec["training"]["epochs"] = 1
    if spec["task"]["dataset"] == "cifar10":  # 1.6 GB to fetch: noise of its shape stands in
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
        np.savez(tmp_path / "noise.npz", x=x, y=np.arange(200) % 10)
        spec["task"] |= {"dataset": "npz", "path": str(tmp_path / "noise.npz")}
        spec["space"]["cell"]["search"] = {"cells": 3, "filters": 4}
        spec["space"]["cell"]["evaluation"] = {"cells": 3, "filters": 4}
    return NASExperiment.model_validate(document)


LONG = ("digits-model",)
"""Examples that take half a minute even when they are shortened."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.soak] if path.stem in LONG else [])
        for path in sorted(EXAMPLES.glob("*.yaml"))
    ],
)
def test_an_example_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    from kinase_trainer import load

    experiment = shortened(path, tmp_path)
    store = open_store(experiment.spec.storage).sub(experiment.directory)
    loop = searched(experiment, store)
    keep_final(store, loop)
    state = loop.state
    assert state.finished is not None
    assert state.finished.winner is not None
    assert 0 <= state.finished.test["test_accuracy"] <= 1
    assert state.counts[Kind.CONTROL] == 1
    assert state.counts[Kind.BASELINE] == len(experiment.spec.baselines)
    assert {t.outcome for t in state.of_kind(Kind.FINAL)} == {Outcome.SUCCEEDED}
    if experiment.spec.estimation.morphism is not None:
        children = [t for t in state.of_kind(Kind.SEARCH) if t.parents]
        assert children
        assert all(t.inherited and t.inherited.trial == t.parents[0] for t in children)
    paused = {t.number for t in state.told if t.outcome is Outcome.STOPPED}  # at a lower rung
    whole = [t for t in state.told if t.curve and t.number not in paused]
    assert all(len(t.curve) == t.fidelity.epochs for t in whole)
    network, card = load(f"{loop.store.uri.removeprefix('file://')}/final")
    winner = state.trials[state.finished.winner]
    assert sum(p.numel() for p in network.parameters()) == winner.resources["params"]
    assert card["params"] == winner.resources["params"]
    assert card["macs"] == winner.resources["macs"]
    assert experiment.metadata.name in render(gather(loop))


def test_the_examples_are_found() -> None:
    assert len(list(EXAMPLES.glob("*.yaml"))) >= 7

"""The script of docs/own-trainer.md is searched on this machine, killed on the way."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from kinase.api import NASExperiment, Outcome
from kinase.experiment.local import run
from kinase.report.gather import gather
from kinase.store import open_uri
from kinase_trainer import load
from tests.docs.blocks import ROOT, blocks

FOLDER = ROOT / "examples" / "own-trainer"
PAGE = "docs/own-trainer.md"
EPOCHS, FINAL = 20, 8


def small(place: Path) -> NASExperiment:
    document: Any = yaml.safe_load((FOLDER / "search.yaml").read_text())
    document["spec"].update(
        budget={"trials": 1},
        control={"share": 0},
        strategy={"type": "Random"},
        training={"epochs": EPOCHS},  # enough to be killed among them
        finalists={"count": 1, "epochs": FINAL},
        estimation={"type": "Full"},
        storage={"uri": f"file://{place}/runs"},
        # the page's command, which says who it is
        trialTemplate={"command": ["sh", "-c", f"echo $$ > {place}/pid; exec python train.py"]},
    )
    return NASExperiment.model_validate(document)


def kill_once(place: Path, killed: list[int]) -> None:
    """End the first trial as soon as it has a checkpoint."""
    progress = place / "runs/default/bars/trials/00000/progress.json"
    while not killed:
        time.sleep(0.01)
        with contextlib.suppress(OSError, ValueError):
            if re.search(r'"epochsDone": ?[1-9]', progress.read_text()):
                killed.append(int((place / "pid").read_text()))
                os.kill(killed[0], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(600)  # each process imports torch, which a busy machine takes long for
def test_the_script_of_the_page_is_searched_locally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER)
    killed: list[int] = []
    threading.Thread(target=kill_once, args=(tmp_path, killed), daemon=True).start()
    loop = run(small(tmp_path))
    trial, final = loop.state.trials.values()
    assert killed
    assert (trial.outcome, trial.attempt, len(trial.curve)) == (Outcome.SUCCEEDED, 2, EPOCHS)
    assert trial.cost.epochs - EPOCHS in (0, 1)  # killed in an epoch, or between two
    assert trial.cost.samples == trial.cost.epochs * 600
    assert loop.state.spent.epochs == trial.cost.epochs + FINAL
    assert final.metrics["val_accuracy"] > 0.5
    winner = gather(loop).winner
    assert winner is not None
    assert winner.test["test_accuracy"] > 0.5
    network, card = load(open_uri(winner.model_uri))
    assert (card["input"], card["outputs"], network.training) == ([1, 12, 12], 3, False)


def test_the_page_shows_the_files() -> None:
    shown = {block.title: block.text for block in blocks(PAGE) if block.title}
    for name in ("before.py", "train.py"):
        assert shown[name] == (FOLDER / name).read_text(), name
    assert (FOLDER / "search.yaml").read_text().endswith(shown["search.yaml"])

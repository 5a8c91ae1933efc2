"""The trainings that searches of any library pay for by the epoch (bench/spending.py)."""

from __future__ import annotations

import pytest

from bench.compare import manifest
from bench.spending import InProcess, Purse, Spent, Trainings
from kinase.experiment.loop import Loop
from kinase.store.memory import MemoryStore

SMALL = {
    "layers": [
        {"op": "conv", "width": 4, "kernel": 3, "stride": 2},
        {"op": "maxpool", "kernel": 3, "stride": 2},
    ]
}
TASK = {"dataset": "digits"}
RANDOM = {"type": "Random"}
ASHA = {"type": "ASHA", "asha": {"rungs": [1]}}


def purse(epochs: int, trainings: Trainings | None = None) -> Purse:
    experiment = manifest(RANDOM, ASHA, 0, epochs, TASK, "/nowhere")
    return Purse(experiment, epochs, trainings or Trainings(), TASK)


def test_one_training_serves_all_that_pay_for_it_and_each_pays() -> None:
    trainings = Trainings()
    paused, whole = purse(9, trainings), purse(9)
    values = [paused.train(0, SMALL, 1), paused.train(0, SMALL, 3, 1)]
    assert [*values[0], *values[1]] == whole.train(0, SMALL, 3)
    again = purse(9, trainings)
    assert again.train(0, SMALL, 2) == [*values[0], *values[1]][:2]
    assert (paused.left, again.left) == (6, 7)


def test_a_purse_pays_for_no_epoch_that_it_does_not_hold() -> None:
    spent = purse(2)
    with pytest.raises(Spent):
        spent.train(0, SMALL, 5)
    assert (spent.left, [seen.epochs for seen in spent.seen]) == (0, [1, 2])
    with pytest.raises(Spent):
        spent.train(1, SMALL, 1)
    assert spent.incumbent().value == spent.best(1.0) == max(spent.best(0.5), spent.best(1.0))


def test_a_search_of_kinase_spends_its_purse_exactly() -> None:
    paid = purse(3)
    experiment = manifest(RANDOM, ASHA, 0, 3, TASK, "/nowhere")
    store = MemoryStore()
    engine = InProcess(paid, store)
    info = engine.describe(experiment.spec.task, experiment.spec.training)
    state = Loop(experiment, store, engine, info).run()
    assert state.finished is not None
    assert (paid.left, [seen.epochs for seen in paid.seen]) == (0, [1, 1, 1])

"""A smaller child learns from its parent before it learns from labels (Elsken et al. 2019,
section 4.2)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kinase.api.inheritance import Inherited
from kinase.api.trial import Architecture, Outcome, Point, TrialJob, TrialResult
from kinase.morphism import dump_chain
from kinase.morphism.bridge import bridge
from kinase.space import Frame, make_space
from kinase.store import Store
from kinase.store.memory import MemoryStore
from kinase_trainer import model, trial
from kinase_trainer.data import open_parts, plain_batches
from kinase_trainer.group import Group
from kinase_trainer.train import Run
from tests.trainer.groups import together
from tests.trainer.helpers import job

FRAME = Frame((1, 8, 8), 10)
PARENT: Architecture = {
    "layers": [
        {"op": "conv", "width": 8, "kernel": 3, "stride": 1},
        {"op": "conv", "width": 8, "kernel": 3, "stride": 1},
        {"op": "maxpool", "kernel": 3, "stride": 2},
        {"op": "conv", "width": 8, "kernel": 3, "stride": 1},
    ]
}


def edited(index: int, **changes: Any) -> Architecture:
    layers = [dict(layer) for layer in PARENT["layers"]]
    layers[index] |= changes
    return {"layers": layers}


CHILDREN: dict[str, Architecture] = {
    "pruned": edited(3, width=4),
    "separated": edited(1, op="sepconv"),
    "removed": {"layers": [PARENT["layers"][i] for i in (0, 2, 3)]},
}


TRAINING = {
    "epochs": 6,
    "device": "cpu",
    "batchSize": 32,
    "optimizer": {"type": "AdamW", "adamw": {"learningRate": 0.01}},
}


def trial_job(
    number: int, architecture: Architecture, epochs: int, data: float = 1.0, **changes: Any
) -> TrialJob:
    return job(
        trial=number,
        prefix=f"trials/{number:05d}",
        architecture=architecture,
        training=TRAINING,
        fidelity={"epochs": epochs, "dataFraction": data},
        keepWeights=True,
        **changes,
    )


def child_job(
    child: Architecture, epochs: int, distil: int, number: int = 7, data: float = 0.2
) -> TrialJob:
    found = bridge(make_space(job().space), PARENT, child, FRAME, approximate=True)
    assert found is not None
    assert not found.exact
    ancestor = {
        "trial": 5,
        "prefix": "trials/00005",
        "architecture": PARENT,
        "morphisms": dump_chain(found.morphisms),
    }
    inherit = {"ancestors": [ancestor], "distil": distil}
    return trial_job(number, child, epochs, data, inherit=inherit)


@pytest.fixture(scope="module")
def trained() -> MemoryStore:
    store = MemoryStore()
    trial.run(trial_job(5, PARENT, 3), store)  # it has much left to learn from the labels
    return store


@pytest.fixture
def store(trained: MemoryStore) -> MemoryStore:
    copied = MemoryStore()
    for key in trained.list():
        copied.put(key, trained.get(key))
    return copied


def answers(store: Store, number: int) -> torch.Tensor:
    """The logits of a trial's network on the validation part."""
    network, _ = model.load(store.sub(f"trials/{number:05d}"))
    _, validation = open_parts(job().task, 1.0, None, torch.device("cpu"))
    with torch.no_grad():
        return torch.cat([network(images) for images, _ in plain_batches(validation)])


def agreement(store: Store, number: int) -> float:
    """With its parent: the share of the validation part that both give the same class."""
    same = answers(store, number).argmax(1) == answers(store, 5).argmax(1)
    return float(same.float().mean())


def test_distilled_children_agree_with_their_parent_more_than_others(store: MemoryStore) -> None:
    """The same child for as many epochs, from the parent's outputs and from the labels."""
    gains = {}
    for name, child in CHILDREN.items():
        trial.run(child_job(child, 5, 5, 20, data=1.0), store)
        trial.run(child_job(child, 5, 0, 21, data=1.0), store)
        gains[name] = agreement(store, 20) - agreement(store, 21)
    assert all(gain > 0 for gain in gains.values()), gains
    assert sum(gains.values()) / len(gains) > 0.08, gains


def test_no_label_is_looked_at_while_it_learns_from_its_parent(store: MemoryStore) -> None:
    labels: list[int] = []
    real = Run._loss

    def counting(self: Run, output: Any, targets: Any) -> Any:
        labels.append(self.epoch)
        return real(self, output, targets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_loss", counting)
        result = trial.run(child_job(CHILDREN["pruned"], 4, 3), store)
    assert set(labels) == {3}
    assert result.outcome is Outcome.SUCCEEDED
    assert result.inherited == Inherited(trial=5, share=1.0, morphisms=1, distilled=3)
    assert result.cost.epochs == len(result.curve) == 4
    assert result.cost.samples == 4 * round(0.2 * 1079)


class Killed(BaseException):
    """Stands for `kill -9`."""


def killed_after(child: TrialJob, epochs: int, store: Store) -> None:
    def die(point: Point) -> bool:
        if point.epoch == epochs:
            raise Killed
        return True

    with pytest.raises(Killed):
        trial.run(child, store, die)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_killed_within_its_distillation_it_goes_on_bit_for_bit(
    epochs: int, store: MemoryStore
) -> None:
    """In the middle, at the last epoch's end, and behind it."""
    child = child_job(CHILDREN["separated"], 4, 2)
    undisturbed = trial.run(child, store)
    wanted = store.get("trials/00007/weights.safetensors")
    for key in [key for key in store.list() if key.startswith("trials/00007/")]:
        store.delete(key)
    killed_after(child, epochs, store)
    torch.manual_seed(99)
    resumed = trial.run(child.model_copy(update={"attempt": 2}), store)
    assert resumed.inherited == undisturbed.inherited
    assert resumed.inherited is not None
    assert resumed.inherited.distilled == 2
    assert resumed.metrics == undisturbed.metrics
    assert store.get("trials/00007/weights.safetensors") == wanted


def test_a_parent_that_has_gone_meanwhile_is_missed_and_the_labels_teach(
    store: MemoryStore,
) -> None:
    child = child_job(CHILDREN["pruned"], 4, 3)
    killed_after(child, 1, store)
    store.delete("trials/00005/weights.safetensors")
    killed_after(child.model_copy(update={"attempt": 2}), 2, store)
    resumed = trial.run(child.model_copy(update={"attempt": 3}), store)
    said = resumed.inherited
    assert said is not None
    assert (said.trial, said.distilled) == (5, 1)
    assert said.message == "trial 5 could not be learned from: its weights do not exist"
    assert len(resumed.curve) == 4


def test_stopped_within_its_distillation_it_says_how_far_it_came(store: MemoryStore) -> None:
    result = trial.run(child_job(CHILDREN["pruned"], 4, 3), store, lambda point: point.epoch < 2)
    assert result.outcome is Outcome.STOPPED
    assert result.inherited is not None
    assert result.inherited.distilled == 2


def test_what_is_matched_or_begins_anew_has_no_teacher(store: MemoryStore) -> None:
    child = child_job(CHILDREN["pruned"], 2, 1)
    assert child.inherit is not None
    [ancestor] = child.inherit.ancestors
    matched = ancestor.model_copy(update={"morphisms": None})
    inherit = child.inherit.model_copy(update={"ancestors": (matched,)})
    result: TrialResult = trial.run(child.model_copy(update={"inherit": inherit}), store)
    assert result.inherited is not None
    assert (result.inherited.morphisms, result.inherited.distilled) == (None, 0)
    anew = trial.run(child, MemoryStore())
    assert anew.inherited is not None
    assert (anew.inherited.trial, anew.inherited.distilled) == (None, 0)
    assert len(anew.curve) == 2


@pytest.mark.parametrize("read", ["by all", "by the first"])
def test_workers_learn_from_the_parent_together_or_not_at_all(
    store: MemoryStore, read: str
) -> None:
    child = child_job(CHILDREN["pruned"], 3, 2)
    theirs = MemoryStore()
    for key in store.list() if read == "by all" else ():
        theirs.put(key, store.get(key))

    def run(group: Group) -> TrialResult | None:
        if group.leads:
            return trial.run(child, store, group=group)
        trial.follow(child, theirs, lambda done: None, lambda done: None, group)
        return None

    result, _ = together(run)
    assert result is not None
    assert result.inherited is not None
    assert (result.inherited.trial, len(result.curve)) == (5, 3)
    if read == "by all":
        assert (result.inherited.distilled, result.inherited.message) == (2, "")
    else:
        said = "trial 5 could not be learned from: another worker could not read it"
        assert (result.inherited.distilled, result.inherited.message) == (0, said)

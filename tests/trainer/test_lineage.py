"""A child begins with its parent's trained weights, or says why it does not."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from kinase.api.inheritance import Inherited
from kinase.api.trial import Architecture, Point, TrialJob, TrialResult
from kinase.morphism import dump_chain
from kinase.morphism.bridge import bridge
from kinase.space import Frame, make_space
from kinase.store import Store
from kinase.store.memory import MemoryStore
from kinase_trainer import lineage, model, trial
from kinase_trainer.setting import set_up
from kinase_trainer.tasks import make_task
from kinase_trainer.train import evaluate, make_optimizer
from tests.trainer.helpers import CHAIN, job

GRANDPARENT: Architecture = {
    "layers": [
        {"op": "conv", "width": 4, "kernel": 3, "stride": 1},
        {"op": "maxpool", "kernel": 3, "stride": 2},
        {"op": "conv", "width": 4, "kernel": 3, "stride": 1},
    ]
}
PARENT: Architecture = {
    "layers": [*GRANDPARENT["layers"][:2], {**GRANDPARENT["layers"][2], "width": 8}]
}
CHILD: Architecture = {
    "layers": [*PARENT["layers"], {"op": "sepconv", "width": 8, "kernel": 3, "stride": 1}]
}
SHRUNK: Architecture = {"layers": [*PARENT["layers"][:2]]}
TRAINING = {"epochs": 2, "device": "cpu", "batchSize": 32}
FIDELITY = {"epochs": 2, "dataFraction": 0.2}
FRAME = Frame((1, 8, 8), 10)


def ancestor(number: int, one: Architecture, other: Architecture) -> dict[str, Any]:
    found = bridge(make_space(job().space), one, other, FRAME)
    return {
        "trial": number,
        "prefix": f"trials/{number:05d}",
        "architecture": one,
        "morphisms": None if found is None else dump_chain(found.morphisms),
    }


def trial_job(number: int, architecture: Architecture, **changes: Any) -> TrialJob:
    return job(
        trial=number,
        prefix=f"trials/{number:05d}",
        architecture=architecture,
        training=TRAINING,
        fidelity=FIDELITY,
        keepWeights=True,
        **changes,
    )


def child_job(architecture: Architecture = CHILD, **changes: Any) -> TrialJob:
    inherit = {
        "ancestors": [
            ancestor(5, PARENT, architecture),
            ancestor(2, GRANDPARENT, PARENT),
        ],
        **changes,
    }
    return trial_job(7, architecture, inherit=inherit)


@pytest.fixture(scope="module")
def family() -> tuple[MemoryStore, dict[int, TrialResult]]:
    """A trained grandparent and a trained parent."""
    store = MemoryStore()
    jobs = (trial_job(2, GRANDPARENT), trial_job(5, PARENT, keepOptimizer=True))
    return store, {each.trial: trial.run(each, store) for each in jobs}


@pytest.fixture
def store(family: tuple[MemoryStore, dict[int, TrialResult]]) -> MemoryStore:
    copied = MemoryStore()
    for key in family[0].list():
        copied.put(key, family[0].get(key))
    return copied


def begun(child: TrialJob, store: Store) -> tuple[Inherited, dict[str, float], Any]:
    """What a child begins with, its scores before the first epoch, and its optimizer's state."""
    setting = set_up(child, store)
    optimizer = make_optimizer(setting.network, child.training)
    said = lineage.begin(child, store, setting.frame, setting.network, optimizer, setting.train)
    scores = evaluate(
        setting.network,
        make_task(child.task),
        setting.validation,
        child.training,
        setting.device,
    )
    return said, scores, optimizer.state


def parents_scores(results: dict[int, TrialResult], number: int) -> dict[str, float]:
    return {k.removeprefix("val_"): v for k, v in results[number].metrics.items()}


def test_a_child_begins_at_its_parents_score(
    family: tuple[MemoryStore, dict[int, TrialResult]], store: MemoryStore
) -> None:
    said, scores, slots = begun(child_job(), store)
    assert said == Inherited(trial=5, share=1.0, morphisms=1)
    assert scores == pytest.approx(parents_scores(family[1], 5), abs=1e-5)
    assert not slots
    anew = begun(child_job(matching=False).model_copy(update={"seed": 9}), MemoryStore())[1]
    assert anew != pytest.approx(scores, abs=1e-3)


def test_a_child_reads_what_its_parent_had_at_its_rest(
    family: tuple[MemoryStore, dict[int, TrialResult]],
) -> None:
    """The parent was promoted since: what it had then is not overwritten, neither the weights nor
    the card."""
    store, own = MemoryStore(), trial_job(5, PARENT, keepOptimizer=True)
    rest = trial.run(own.model_copy(update={"until": 1}), store)
    last = trial.run(own.model_copy(update={"attempt": 2, "done": 1}), store)
    assert (rest.kept_in, last.kept_in) == ("epoch-1", "")
    for prefix, result in (("trials/00005/epoch-1", rest), ("trials/00005", last)):
        parent = {**ancestor(5, PARENT, CHILD), "prefix": prefix}
        said, scores, slots = begun(child_job(ancestors=[parent], optimizer=True), store)
        assert said == Inherited(trial=5, share=1.0, morphisms=1)
        assert scores == pytest.approx(parents_scores({5: result}, 5), abs=1e-5)
        assert slots
    assert rest.metrics != last.metrics
    assert last.metrics == family[1][5].metrics


def test_its_result_says_so_and_it_keeps_weights_for_its_own_children(store: MemoryStore) -> None:
    result = trial.run(child_job(), store)
    assert result.inherited == Inherited(trial=5, share=1.0, morphisms=1)
    weights = store.get("trials/00007/weights.safetensors")
    assert result.kept_bytes == len(weights)
    assert result.cost.epochs == 2
    assert result.facts["bytesRead"] > len(store.get("trials/00005/weights.safetensors"))
    assert result.facts["bytesWritten"] > len(weights)
    assert result.facts["bytesFromCache"] == 0
    assert TrialResult.model_validate_json(store.get("trials/00007/result.json")) == result


def _gone(store: Store) -> None:
    store.delete("trials/00005/weights.safetensors")


def _truncated(store: Store) -> None:
    store.put(
        "trials/00005/weights.safetensors", store.get("trials/00005/weights.safetensors")[:-9]
    )


def _tampered(store: Store) -> None:
    raw = bytearray(store.get("trials/00005/weights.safetensors"))
    raw[-1] ^= 1
    store.put("trials/00005/weights.safetensors", bytes(raw))


def _replaced(store: Store, raw: bytes) -> None:
    """Other bytes, whose digest the card has."""
    card = json.loads(store.get("trials/00005/model.json"))
    card["sha256"] = hashlib.sha256(raw).hexdigest()
    store.put("trials/00005/model.json", json.dumps(card).encode())
    store.put("trials/00005/weights.safetensors", raw)


class _Bomb:
    """Fails the test if it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (pytest.fail, ("a stored file was unpickled",))


def _pickled(store: Store) -> None:
    _replaced(store, pickle.dumps(_Bomb()))


def _not_a_number(store: Store) -> None:
    state = load_tensors(store.get("trials/00005/weights.safetensors"))
    next(t for n, t in state.items() if n.endswith("classifier.weight"))[0, 0] = float("nan")
    _replaced(store, save_tensors(state))


def _whole_numbers(store: Store) -> None:
    state = load_tensors(store.get("trials/00005/weights.safetensors"))
    _card(tensors={})(store)
    _replaced(store, save_tensors({name: t.to(torch.int64) for name, t in state.items()}))


def _other_shapes(store: Store) -> None:
    state = load_tensors(store.get("trials/00005/weights.safetensors"))
    name = next(n for n in state if n.endswith("classifier.weight"))
    _replaced(store, save_tensors({**state, name: torch.zeros(10, 3)}))


def _card(**changes: Any) -> Callable[[Store], None]:
    def change(store: Store) -> None:
        card = json.loads(store.get("trials/00005/model.json"))
        store.put("trials/00005/model.json", json.dumps({**card, **changes}).encode())

    return change


_STORED = {"dtype": "F32", "shape": [1], "sha256": "0" * 64}
DAMAGES = {
    "gone": (_gone, "its weights do not exist"),
    "truncated": (_truncated, "is not the file that its card names"),
    "tampered": (_tampered, "is not the file that its card names"),
    "pickled": (_pickled, "is a pickled file, which is never opened"),
    "nan": (_not_a_number, "holds a value that is not finite"),
    "shapes": (_other_shapes, "does not fit its card: 'nodes.classifier.weight'"),
    "whole numbers": (_whole_numbers, "is of type torch.int64"),
    "not in the card": (_card(tensors={"a": _STORED}), "has no tensor nodes."),
    "another experiment": (_card(experiment="other"), "its experiment is other"),
    "another space": (_card(space={"type": "Chain"}), "its space is"),
    "another architecture": (_card(architecture=CHILD), "its architecture is"),
    "no card": (_card(params="many"), "is not a valid model card"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_parent_that_cannot_be_used_leaves_the_grandparent(
    name: str, family: tuple[MemoryStore, dict[int, TrialResult]], store: MemoryStore
) -> None:
    damage, remark = DAMAGES[name]
    damage(store)
    said, scores, _ = begun(child_job(), store)
    assert (said.trial, said.share, said.morphisms) == (2, 1.0, 2)
    assert said.message.startswith("trial 5: ")
    assert remark in said.message
    assert scores == pytest.approx(parents_scores(family[1], 2), abs=1e-5)


def test_without_any_ancestor_it_begins_anew_and_says_so(store: MemoryStore) -> None:
    _gone(store)
    store.put("trials/00002/weights.safetensors", b"")
    result = trial.run(child_job(), store)
    assert result.inherited is not None
    assert result.inherited.trial is None
    assert "trial 5: its weights do not exist; trial 2: " in result.inherited.message
    fresh = trial.run(trial_job(8, CHILD), MemoryStore())
    assert result.metrics == fresh.metrics


def test_a_child_that_no_morphisms_lead_to_takes_what_matches(store: MemoryStore) -> None:
    said, _, _ = begun(child_job(SHRUNK), store)
    assert said.trial == 5
    assert said.morphisms is None
    assert 0 < said.share < 1


def test_or_begins_anew_where_it_shall_not(store: MemoryStore) -> None:
    said, _, _ = begun(child_job(SHRUNK, matching=False), store)
    assert said.trial is None


def test_morphisms_that_lead_elsewhere_are_not_believed(store: MemoryStore) -> None:
    child = child_job()
    assert child.inherit is not None
    first, second = child.inherit.ancestors
    wrong = first.model_copy(update={"morphisms": ()})
    inherit = child.inherit.model_copy(update={"ancestors": (wrong, second)})
    said, _, _ = begun(child.model_copy(update={"inherit": inherit}), store)
    assert said.trial == 5
    assert said.morphisms is None
    assert "lead to another network" in said.message


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "no such node": ({"op": "widen", "node": "layer9_conv", "to": 9}, "layer9_conv"),
    "a node that it does not fit": ({"op": "widen", "node": "layer0_bn", "to": 9}, "layer0_bn"),
    "a network that is too large": (
        {"op": "widen", "node": "layer0_conv", "to": 50_000},
        "after widen there would be ",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_morphisms_that_do_not_fit_leave_the_tensors_that_match(
    name: str, store: MemoryStore
) -> None:
    morphism, remark = MISFITS[name]
    child = child_job()
    assert child.inherit is not None
    first, second = child.inherit.ancestors
    wrong = first.model_copy(update={"morphisms": (morphism,)})
    inherit = child.inherit.model_copy(update={"ancestors": (wrong, second)})
    said, _, _ = begun(child.model_copy(update={"inherit": inherit}), store)
    assert (said.trial, said.morphisms) == (5, None)
    assert 0 < said.share < 1
    assert remark in said.message


def test_an_older_card_without_tensors_is_read_whole(store: MemoryStore) -> None:
    card = json.loads(store.get("trials/00005/model.json"))
    del card["tensors"]
    store.put("trials/00005/model.json", json.dumps(card).encode())
    assert begun(child_job(), store)[0] == Inherited(trial=5, share=1.0, morphisms=1)
    assert begun(child_job(SHRUNK), store)[0].trial == 5


def test_momentum_follows_when_it_shall(store: MemoryStore) -> None:
    said, _, state = begun(child_job(optimizer=True), store)
    assert said.trial == 5
    parent = store.sub("trials/00005")
    kept = model.read_slots(parent, model.read_card(parent))
    moved = [t for slots in state.values() for t in slots.values() if t.ndim]
    assert any(bool((t != 0).any()) for t in moved)
    assert len(moved) > sum(t.ndim > 0 for slots in kept.values() for t in slots.values())


SLOTS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor] | None, str]] = {
    "gone": (None, "its slots do not exist"),
    "of other shapes": (lambda t: torch.zeros(3), r"has shape (3,)"),
    "not finite": (lambda t: t + float("nan"), "holds a value that is not finite"),
}


@pytest.mark.parametrize("name", SLOTS)
def test_momentum_that_cannot_be_used_costs_nothing_but_itself(
    name: str, store: MemoryStore
) -> None:
    change, remark = SLOTS[name]
    key = "trials/00005/optimizer.safetensors"
    if change is None:
        store.delete(key)
    else:
        raw = save_tensors({n: change(t) for n, t in load_tensors(store.get(key)).items()})
        _card(slotsSha256=hashlib.sha256(raw).hexdigest())(store)
        store.put(key, raw)
    said, _, slots = begun(child_job(optimizer=True), store)
    assert (said.trial, said.share, said.morphisms) == (5, 1.0, 1)
    assert said.message.startswith("trial 5: ")
    assert remark in said.message
    assert not slots


def test_the_learning_rate_is_that_of_a_child(store: MemoryStore) -> None:
    slow = trial.run(child_job(learningRateFactor=1e-6), store)
    assert slow.curve[0].metrics["val_loss"] != slow.curve[-1].metrics["val_loss"]
    weights = load_tensors(store.get("trials/00007/weights.safetensors"))
    parent = load_tensors(store.get("trials/00005/weights.safetensors"))
    name = "nodes.layer0_conv.weight"
    assert torch.allclose(weights[name], parent[name], atol=1e-4)
    assert not torch.equal(weights[name], parent[name])


def test_a_resumed_attempt_goes_on_from_its_own_checkpoint(store: MemoryStore) -> None:
    undisturbed = trial.run(child_job(learningRateFactor=0.5), store)

    class Killed(BaseException):
        pass

    def die(point: Point) -> bool:
        raise Killed

    store.delete("trials/00007/result.json")
    child = child_job(learningRateFactor=0.5)
    with pytest.raises(Killed):
        trial.run(child, store, die)
    _gone(store)
    resumed = trial.run(child.model_copy(update={"attempt": 2}), store)
    assert resumed.inherited == undisturbed.inherited
    assert resumed.metrics == undisturbed.metrics


SPACES: dict[str, dict[str, Any]] = {
    "chain": {**CHAIN, "chain": {**CHAIN["chain"], "skips": True, "widths": [4, 6, 8]}},
    "multibranch": {"type": "MultiBranch", "multiBranch": {"maxNodes": 4, "widths": [4, 6]}},
    "nasbench201": {
        "type": "Cell",
        "cell": {"preset": "nasbench201", "search": {"cells": 3, "filters": 4}},
    },
    "darts": {
        "type": "Cell",
        "cell": {"preset": "darts", "nodes": 2, "search": {"cells": 3, "filters": 4}},
    },
    "nasnet": {
        "type": "Cell",
        "cell": {"preset": "nasnet", "nodes": 2, "search": {"cells": 3, "filters": 4}},
    },
}


@pytest.mark.parametrize("name", SPACES)
def test_where_there_is_a_bridge_the_child_is_its_parents_function(name: str) -> None:
    from kinase.api.space import Space as SpaceModel
    from kinase.space import InfeasibleError
    from kinase_trainer.morphism import inherit
    from kinase_trainer.network import Network
    from tests.trainer.morphism_graphs import trained

    space = make_space(SpaceModel.model_validate(SPACES[name]))
    frame = Frame((3, 9, 8), 5, space.scale(final=False))
    rng = np.random.default_rng(1)
    images = torch.rand(3, 3, 9, 8)
    bridges = 0
    for _ in range(400):
        parent = space.sample(rng)
        child = space.mutate(parent, rng)
        try:
            before, after = space.graph(parent, frame), space.graph(child, frame)
        except InfeasibleError:
            continue
        found = bridge(space, parent, child, frame, seed=3)
        if found is None:
            continue
        state = {n: t.float() if t.is_floating_point() else t for n, t in trained(before).items()}
        one = Network(before, (0.4, 0.5, 0.6), (0.3, 0.2, 0.3))
        one.load_state_dict(state)
        made = inherit(before, state, found.morphisms)
        renamed = lineage._renamed(made.state, found.names)
        other = Network(after, (0.4, 0.5, 0.6), (0.3, 0.2, 0.3))
        other.load_state_dict({**other.state_dict(), **renamed})
        with torch.no_grad():
            wanted, given = one.eval()(images), other.eval()(images)
        assert torch.allclose(wanted, given, atol=1e-5, rtol=1e-5)
        bridges += 1
        if bridges == 6:
            return
    raise AssertionError(f"only {bridges} of the mutations have a bridge")

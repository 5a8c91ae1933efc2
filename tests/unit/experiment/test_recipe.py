"""Searches for settings of the training: what a trial gets, what the record keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kinase.api.load import Document, ManifestError
from kinase.api.trial import Kind, TrialJob
from kinase.experiment import identity
from kinase.experiment.check import checked
from kinase.experiment.dispatch import job_of
from kinase.report import render
from kinase.report.gather import gather
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import experiment, make_loop, score, told
from tests.unit.experiment.test_inheritance import Trainer

LAYER = {"op": "conv", "width": 8, "kernel": 3, "stride": 1}
NETWORK = {"layers": [LAYER]}
SETTINGS = {
    "learningRate": {"min": 0.001, "max": 1},
    "batchSize": {"values": [16, 64]},
    "flip": True,
}
SPACE: dict[str, Any] = {
    "type": "Chain",
    "chain": {"maxDepth": 4, "widths": [4, 8]},
    "training": SETTINGS,
}


def test_a_trial_is_trained_with_its_own_settings() -> None:
    jobs: list[TrialJob] = []

    def evaluate(job: TrialJob) -> dict[str, float]:
        jobs.append(job)
        return score(job)

    baseline = {"name": "hand", "architecture": NETWORK}
    manifest = experiment(space=SPACE, baselines=[baseline])
    loop = make_loop(manifest, evaluate=evaluate)
    loop.run()
    for job in jobs:
        trial = loop.state.trials[job.trial]
        assert set(job.architecture) == {"layers"}
        assert job.space == manifest.spec.space.networks
        assert not {"training", "architecture"} & set(job.model_dump(mode="json")["space"])
        if trial.kind is Kind.BASELINE:
            assert job.training == manifest.spec.training
            continue
        found = trial.architecture["training"]
        assert job.training.optimizer.member.learning_rate == found["learningRate"]
        assert job.training.batch_size == found["batchSize"]
        assert job.training.augmentation.flip == found["flip"]
        assert job.training.optimizer.member.momentum == 0.9
    finals = list(loop.state.of_kind(Kind.FINAL))
    assert len(finals) == 2
    for trial in finals:
        assert trial.key == loop.state.trials[trial.parents[0]].key
    page = render(gather(loop))
    assert "the search space includes learningRate, batchSize, flip" in page


def test_a_search_of_settings_continues_where_it_was() -> None:
    manifest = experiment(space=SPACE, strategy={"type": "BOHB", "bohb": {"minPoints": 3}})
    store = MemoryStore()
    whole = make_loop(manifest, store)
    whole.run()
    again = make_loop(manifest, store)
    again.replay()
    assert told(again) == told(whole)
    assert {t.operation for t in whole.state.trials.values()} >= {"sample", "model"}


def test_a_search_of_settings_alone_ends_when_all_are_tried() -> None:
    alone = {k: v for k, v in SETTINGS.items() if k != "learningRate"}
    space = {**SPACE, "architecture": NETWORK, "training": alone}
    loop = make_loop(experiment(space=space, control={"share": 0}))
    loop.run()
    assert loop.state.ended == "the search space is exhausted"
    assert len({t.key for t in loop.state.of_kind(Kind.SEARCH)}) == 4
    assert {repr(t.architecture["layers"]) for t in loop.state.trials.values()} == {repr([LAYER])}


def test_other_settings_inherit_all_the_weights() -> None:
    """The child of a network that is the same has no morphisms, so it begins as its parent's
    function; what it is trained from is named without settings, as the trainer knows it."""
    space = {**SPACE, "architecture": NETWORK}
    manifest = experiment(
        space=space,
        strategy={"type": "NASH", "nash": {"initial": 2, "neighbours": 4}},
        estimation={"type": "Morphism", "morphism": {"epochsPerChild": 1}},
    )
    store = MemoryStore()
    loop = make_loop(manifest, store, engine=Trainer(store))
    loop.run()
    children = [t for t in loop.state.of_kind(Kind.SEARCH) if t.inherit is not None]
    changed = [t for t in children if t.key != loop.state.trials[t.parents[0]].key]
    assert len(changed) > 3
    for trial in changed:
        assert trial.inherit is not None
        assert trial.inherit.ancestors[0].morphisms == ()
        assert trial.inherit.ancestors[0].architecture == NETWORK
        assert job_of(loop, trial).inherit == trial.inherit


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"architecture": {"layers": []}},
            "spec.space.architecture: layers is 0; use a list of 1 to 4 layers",
        ),
        (
            {"architecture": NETWORK, "training": None},
            "architecture is set, so training must be set, too: nothing is left to search for",
        ),
    ],
)
def test_a_network_that_cannot_be_fixed_is_refused(space: Any, said: str) -> None:
    document = experiment(space=SPACE).model_dump(mode="json", by_alias=True, exclude_none=True)
    document["spec"]["space"] |= space
    with pytest.raises(ManifestError) as error:
        checked(Document("toy", document, {}))
    assert said in str(error.value)


def test_a_baseline_with_a_setting_that_is_not_in_the_space_is_refused() -> None:
    document = experiment(space=SPACE).model_dump(mode="json", by_alias=True, exclude_none=True)
    architecture = {**NETWORK, "training": {"batchSize": 32}}
    document["spec"]["baselines"] = [{"name": "hand", "architecture": architecture}]
    with pytest.raises(ManifestError) as error:
        checked(Document("toy", document, {}))
    assert "spec.baselines.0.architecture: training.batchSize is 32; use one of 16, 64" in str(
        error.value
    ) or "training.batchSize is 32; use one of 16, 64" in str(error.value)


def test_the_record_of_an_earlier_version_agrees() -> None:
    store, manifest = MemoryStore(), experiment()
    identity.claim(store, manifest)
    document = json.loads(store.get(identity.KEY))
    for field in ("training", "architecture"):
        assert document["spec"]["space"].pop(field) is None
    store.put(identity.KEY, json.dumps(document).encode())
    identity.agree(store, manifest)
    with pytest.raises(identity.MismatchError, match=r"spec\.space\.training is null there"):
        identity.agree(store, experiment(space=SPACE))

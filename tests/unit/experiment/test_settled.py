"""Defaults that follow from the budget are settled when an experiment begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kinase.experiment import identity, lock
from kinase.experiment.final_outputs import same_task
from kinase.experiment.local import MANIFEST, last_spec, reopen
from kinase.store import Store, StoreError, open_store
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, experiment, make_loop


def sizes(document: Any) -> tuple[int | None, int | None]:
    evolution = document["strategy"]["evolution"]
    return evolution["population"], evolution["sample"]


def made(trials: int, **options: int) -> Any:
    strategy = {"type": "Evolution", "evolution": options}
    return experiment(strategy=strategy, budget={"trials": trials}, control={"share": 0.2})


def begun(trials: int) -> Store:
    store = MemoryStore()
    identity.claim(store, made(trials))
    store.put("journal/00000000.jsonl", b"")
    return store


def test_the_record_keeps_them() -> None:
    store = begun(100)
    assert sizes(identity.recorded(store)["spec"]) == (20, 10)


def test_a_larger_budget_changes_none() -> None:
    store, larger = begun(100), made(400)
    assert larger.spec.sized().strategy.evolution.population == 80
    identity.claim(store, larger)  # agrees
    kept = identity.settled(store, larger).spec.sized().strategy.evolution
    assert (kept.population, kept.sample) == (20, 10)


def test_an_experiment_of_an_earlier_version_keeps_that_versions_defaults() -> None:
    store = begun(100)
    document = identity.recorded(store)
    document["spec"]["strategy"]["evolution"] |= {"population": 100, "sample": 25}
    store.put(identity.KEY, json.dumps(document).encode())
    identity.claim(store, made(100))
    kept = identity.settled(store, made(100)).spec.strategy.evolution
    assert (kept.population, kept.sample) == (100, 25)


def test_to_name_what_was_settled_is_no_change_and_another_value_is() -> None:
    store = begun(100)
    identity.claim(store, made(100, population=20, sample=10))
    with pytest.raises(identity.MismatchError, match="population is 20 there and 50 here"):
        identity.claim(store, made(100, population=50))


def test_before_the_first_trial_nothing_is_settled() -> None:
    store = MemoryStore()
    identity.claim(store, made(100))
    assert identity.settled(store, made(400)).spec.strategy.evolution.population is None


def test_a_loop_goes_by_them_also_when_its_budget_grows() -> None:
    loop = make_loop(made(40))
    assert sizes(loop.spec.model_dump()) == (10, 5)
    loop.update(made(4000))
    assert sizes(loop.spec.model_dump()) == (10, 5)
    assert loop.spec.budget.trials == 4000


@pytest.mark.parametrize(
    ("task", "digests", "fit"),
    [
        ({"dataset": "folder", "path": "/x", "resolution": 8}, {}, "crop"),
        ({"dataset": "folder", "path": "/x", "resolution": 8}, {"samples": "a"}, None),
        (
            {"dataset": "folder", "path": "/x", "resolution": 8, "folder": {"fit": "stretch"}},
            {},
            "stretch",
        ),
        ({"dataset": "digits"}, {}, None),
    ],
)
def test_a_folder_is_cropped_where_the_version_that_began_cropped_it(
    task: dict[str, Any], digests: dict[str, str], fit: str | None
) -> None:
    store, given = MemoryStore(), experiment(task=task)
    identity.claim(store, given)
    same_task(store, INFO.model_copy(update={"data": digests}))
    assert identity.settled(store, given) is given  # nothing was asked yet
    store.put("journal/00000000.jsonl", b"")
    kept = identity.settled(store, given)
    assert (kept.spec.task.folder and kept.spec.task.folder.fit) == fit
    identity.claim(store, given)  # the manifest agrees as it is
    loop = make_loop(kept)
    loop.update(given)
    assert loop.spec.task == kept.spec.task


def long(**fields: Any) -> Any:
    """An experiment whose training is long enough for a ladder, without an estimation."""
    return experiment(**{"estimation": {}, "training": {"epochs": 20}, **fields})


def chosen(store: Store, **fields: Any) -> str:
    """The type of the estimation with which a manifest goes on."""
    given = long(**fields)
    identity.claim(store, given)
    return identity.settled(store, given).spec.estimation.type


def started(supports: tuple[str, ...], **fields: Any) -> Store:
    store, given = MemoryStore(), long(**fields)
    identity.claim(store, given)
    identity.claim(store, given, supports)
    store.put("journal/00000000.jsonl", b"")
    return store


@pytest.mark.parametrize(("supports", "kind"), [(("until",), "ASHA"), ((), "Full")])
def test_what_the_type_auto_means_is_recorded(supports: tuple[str, ...], kind: str) -> None:
    store = started(supports)
    assert identity.recorded(store)["spec"]["estimation"]["type"] == kind
    assert chosen(store) == kind
    assert chosen(store, estimation={"type": kind}) == kind  # to name it is the same
    with pytest.raises(identity.MismatchError, match=f'type is "{kind}" there and "Hyperband"'):
        identity.claim(store, long(estimation={"type": "Hyperband"}))


def test_the_inheritance_that_auto_chooses_is_recorded() -> None:
    store, nash = started(("until",), strategy={"type": "NASH"}), long(strategy={"type": "NASH"})
    identity.claim(store, nash)
    kept = identity.settled(store, nash).spec.estimation
    assert (kept.type, kept.inherit is not None) == ("ASHA", True)


def test_a_run_that_began_in_full_goes_on_in_full() -> None:
    store = started(("until",), estimation={"type": "Full"})
    assert chosen(store) == "Full"


def test_what_stands_beside_the_type_must_agree() -> None:
    store = started(("until",), estimation={"stopping": {"type": "Median"}})
    assert chosen(store, estimation={"stopping": {"type": "Median"}}) == "Full"
    with pytest.raises(identity.MismatchError, match=r"estimation\.stopping"):
        identity.claim(store, long())


@pytest.mark.parametrize(("supports", "kind"), [(("until",), "ASHA"), ((), "Full")])
def test_a_record_goes_by_what_the_trainer_can(supports: tuple[str, ...], kind: str) -> None:
    info = INFO.model_copy(update={"supports": supports})
    loop = make_loop(long(), info=info)
    assert (loop.spec.estimation.type, loop.laddered) == (kind, kind == "ASHA")
    loop.update(long(budget={"trials": 4000}))
    assert loop.spec.estimation.type == kind


def test_a_manifest_that_an_earlier_version_kept_without_its_default_is_passed_over(
    tmp_path: Path,
) -> None:
    """It kept `estimation: {}` as `{full: {}}`, when that was the default."""
    given = experiment(storage={"uri": f"file://{tmp_path}"}, estimation={"type": "Full"})
    store = open_store(given.spec.storage).sub(given.directory)
    identity.claim(store, given)
    spec = given.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    kept = lock.scratch(store) / MANIFEST
    kept.write_text(json.dumps(spec | {"budget": {"trials": 30}}))
    assert last_spec(store)["budget"]["trials"] == 30
    kept.write_text(json.dumps(spec | {"estimation": {"full": {}}}))
    assert last_spec(store)["estimation"]["type"] == "Full"


def test_a_run_whose_member_is_not_installed_here_is_refused_in_a_line() -> None:
    store = MemoryStore()
    identity.claim(store, experiment(estimation={"type": "Custom", "custom": {"name": "mine"}}))
    same_task(store, INFO)
    with pytest.raises(StoreError, match=r"cannot be read: 'mine' is not registered .*; install"):
        reopen(store, "default")

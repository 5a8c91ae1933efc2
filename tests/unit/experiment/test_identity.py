"""What may change between two runs under one name, and what is noticed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kinase.api import changes
from kinase.api.trial import TaskInfo
from kinase.experiment import identity
from kinase.experiment.final_outputs import TASK, same_task
from kinase.experiment.identity import MismatchError, ReadOtherwise, agree, claim
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, experiment

PAGE = (Path(__file__).parents[3] / "docs/quickstart-laptop.md").read_text()


def spec_of(store: MemoryStore) -> dict[str, object]:
    spec: dict[str, object] = json.loads(store.get(identity.KEY))["spec"]
    return spec


def test_until_a_trial_is_asked_the_manifest_can_be_corrected() -> None:
    store = MemoryStore()
    assert not claim(store, experiment(task={"dataset": "cifar10", "path": "/typo"}))
    same_task(store, INFO)
    assert not claim(store, experiment(task={"dataset": "digits"}))
    assert spec_of(store)["task"]["dataset"] == "digits"  # type: ignore[index]
    assert not store.exists(TASK)


def test_what_may_change_is_the_same_for_the_record_the_page_and_the_api_server() -> None:
    [named] = re.findall(r"Under one name only\s(.+?) may change once", PAGE, re.DOTALL)
    assert tuple(re.findall(r"`(.+?)`", named)) == changes.BETWEEN_RUNS
    assert set(changes.AFTER_END) < set(changes.CHANGEABLE) < set(changes.BETWEEN_RUNS)


def test_from_the_first_trial_on_it_is_what_it_is() -> None:
    store = MemoryStore()
    claim(store, experiment())
    store.put("journal/00000000.jsonl", b"{}")
    assert claim(store, experiment(budget={"trials": 50}, objective={"target": 0.9}))
    with pytest.raises(MismatchError, match=r"spec\.seed is 0 there and 1 here"):
        claim(store, experiment(seed=1))
    with pytest.raises(MismatchError, match=r"spec\.objective\.metric is \"val_accuracy\" there"):
        agree(store, experiment(objective={"metric": "val_loss", "goal": "minimize"}))
    assert spec_of(store)["seed"] == 0


def test_a_running_search_is_compared_and_never_corrected() -> None:
    store = MemoryStore()
    claim(store, experiment())
    with pytest.raises(MismatchError):
        agree(store, experiment(seed=1))
    assert spec_of(store)["seed"] == 0


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"train": 999}, "train was 1000 and is 999; restore the data"),
        ({"data": {"samples": "b", "test": "t"}}, "its images or targets have changed, though not"),
        ({"data": {"samples": "a", "test": "u"}}, "its test images or targets have changed"),
    ],
)
def test_changed_data_is_noticed(now: dict[str, object], message: str) -> None:
    store = MemoryStore()
    info = INFO.model_copy(update={"data": {"samples": "a", "test": "t"}})
    same_task(store, info)
    store.put("journal/00000000.jsonl", b"{}")
    same_task(store, info)
    with pytest.raises(MismatchError, match=message):
        same_task(store, info.model_copy(update=now))


def test_an_older_description_is_compared_by_what_it_has() -> None:
    store = MemoryStore()
    text = INFO.model_dump_json(by_alias=True, exclude={"data"})
    assert "data" not in json.loads(text)
    store.put(TASK, text.encode())
    store.put("journal/00000000.jsonl", b"{}")
    same_task(store, INFO.model_copy(update={"data": {"samples": "b"}}))
    assert TaskInfo.model_validate_json(store.get(TASK)).data == {}


def test_a_damaged_description_is_named() -> None:
    store = MemoryStore()
    store.put(TASK, b'{"input": [1')
    store.put("journal/00000000.jsonl", b"{}")
    with pytest.raises(MismatchError, match=r"task\.json is damaged; restore it, or delete it"):
        same_task(store, INFO)


def test_where_no_digests_were_kept_the_checksum_is_compared() -> None:
    store = MemoryStore()
    facts = {"data checksum": "a", "torch": "2.0"}
    same_task(store, INFO.model_copy(update={"facts": facts}))
    store.put("journal/00000000.jsonl", b"{}")
    now = {"data": {"samples": "a"}, "facts": {"data checksum": "a", "torch": "2.1"}}
    same_task(store, INFO.model_copy(update=now))
    now = {"data": {"samples": "b"}, "facts": {"data checksum": "b"}}
    with pytest.raises(ReadOtherwise, match=r"another checksum \(b\) than in the earlier run .*"):
        same_task(store, INFO.model_copy(update=now))

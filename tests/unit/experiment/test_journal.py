from __future__ import annotations

import re

import pytest

from kinase.api import Outcome, limits
from kinase.api.trial import TrialProgress, TrialResult
from kinase.experiment import journal as journal_module
from kinase.experiment.artifacts import read_progress, read_result
from kinase.experiment.entries import Ended, Told
from kinase.experiment.journal import Fenced, Journal, JournalError
from kinase.experiment.record import Record
from kinase.store import StoreError
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import experiment, make_loop


def entry(number: int) -> Told:
    return Told(
        trial=number,
        outcome=Outcome.SUCCEEDED,
        metrics={"val_accuracy": 1 / 3},
        curve=(0.1, None, 0.3),
        elapsed=number,
    )


def filled(count: int) -> MemoryStore:
    store = MemoryStore()
    journal = Journal(store)
    assert list(journal.replay()) == []
    for number in range(count):
        journal.append(entry(number))
    return store


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 17])
def test_what_was_appended_is_replayed(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 4)
    store = filled(count)
    journal = Journal(store)
    assert list(journal.replay()) == [entry(n) for n in range(count)]
    assert len([k for k in store.list() if "segment" in k]) == count // 4
    journal.append(entry(count))
    assert list(Journal(store).replay()) == [entry(n) for n in range(count + 1)]


def test_entries_that_are_too_many_for_one_object_are_readable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ENTRY", 1000)
    store = MemoryStore()
    journal = Journal(store)
    journal.append(*map(entry, range(50)))
    assert 5 < journal.length < 50
    later = Journal(store)
    assert list(later.replay()) == [entry(n) for n in range(50)]
    assert later.length == journal.length


def test_sealed_entries_are_read_from_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 4)
    store = filled(6)
    reads: list[str] = []
    get = MemoryStore.get
    monkeypatch.setattr(
        MemoryStore,
        "get",
        lambda self, key, limit=None: (reads.append(key), get(self, key, limit))[1],
    )
    list(Journal(store).replay())
    assert len(reads) == 3  # one segment, two entries


def test_a_segment_cut_short_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 4)
    store = filled(6)
    key = "journal/segment-00000000.jsonl"
    store.put(key, store.get(key)[:100])
    assert list(Journal(store).replay()) == [entry(n) for n in range(6)]


def test_what_is_too_large_of_a_journal_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment is passed over, for its objects are there; of an object the name is said."""
    monkeypatch.setattr(journal_module, "SEGMENT", 4)
    monkeypatch.setattr(limits, "SEGMENT", 1000)
    monkeypatch.setattr(limits, "ENTRY", 2000)
    store = filled(6)
    store.put("journal/segment-00000000.jsonl", bytes(1001))
    assert list(Journal(store).replay()) == [entry(n) for n in range(6)]
    store.put("journal/00000002.jsonl", bytes(2001))
    with pytest.raises(StoreError, match=r"journal/00000002.jsonl is too large: 2,001 bytes"):
        list(Journal(store).replay())


@pytest.mark.parametrize("name", ["result", "progress"])
def test_what_a_trial_leaves_is_read_up_to_a_limit(name: str) -> None:
    store, key = MemoryStore(), f"trials/00001/{name}.json"
    valid = b'{"trial": 1, "attempt": 1, "outcome": "Stopped"}' if name == "result" else b"{}"
    limit = limits.RESULT if name == "result" else limits.LEDGER

    def read() -> TrialResult | TrialProgress | None:
        place = "trials/00001"
        return read_result(store, place, 1) if name == "result" else read_progress(store, place)

    store.put(key, valid.ljust(limit))
    assert read() is not None
    store.put(key, valid.ljust(limit + 1))
    assert read() == (None if name == "result" else TrialProgress())


def test_a_last_entry_cut_short_is_written_anew() -> None:
    store = filled(3)
    store.put("journal/00000002.jsonl", store.get("journal/00000002.jsonl")[:20])
    journal = Journal(store)
    assert list(journal.replay()) == [entry(0), entry(1)]
    journal.append(Ended(reason="over"))
    assert list(Journal(store).replay())[-1] == Ended(reason="over")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"type":"told"}', b'{"type":"other"}'])
def test_a_damaged_entry_in_the_middle_is_an_error_that_names_it(damage: bytes) -> None:
    store = filled(3)
    store.put("journal/00000001.jsonl", damage)
    with pytest.raises(JournalError, match=r"journal/00000001.jsonl is damaged"):
        list(Journal(store).replay())


def test_a_missing_entry_is_an_error_that_names_it() -> None:
    store = filled(3)
    store.delete("journal/00000001.jsonl")
    with pytest.raises(JournalError, match=r"journal/00000001.jsonl is missing"):
        list(Journal(store).replay())


def test_two_writers_at_one_number_are_one_too_many() -> None:
    store = filled(3)
    one, other = Journal(store), Journal(store)
    list(one.replay())
    list(other.replay())
    one.append(entry(3))
    with pytest.raises(Fenced):
        other.append(entry(3))
    assert list(Journal(store).replay()) == [entry(n) for n in range(4)]


def test_entries_of_one_turn_are_kept_together_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 2)
    store = MemoryStore()
    journal = Journal(store)
    for turn in range(5):
        journal.append(*(entry(3 * turn + n) for n in range(3)))
    assert journal.length == 5
    assert list(Journal(store).replay()) == [entry(n) for n in range(15)]
    last = "journal/00000004.jsonl"
    store.put(last, store.get(last)[:-20])
    assert list(Journal(store).replay()) == [entry(n) for n in range(12)]


def test_a_segment_with_a_damaged_line_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT", 4)
    store = filled(6)
    key = "journal/segment-00000000.jsonl"
    store.put(key, store.get(key).replace(b'"told"', b'"tald"', 1))
    assert list(Journal(store).replay()) == [entry(n) for n in range(6)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"winner":', '"winner":9', "the winner, trial 9"),
        ('"layers":[', '"layers":"nonsense","x":[', "entry 1 (asked) does not fit"),
        ('"parents":[', '"parents":[77,', "has the parent 77, which is unknown"),
        ('"type":"told","trial":0', '"type":"told","trial":5', "trial 5 is not outstanding"),
    ],
)
def test_a_journal_that_contradicts_itself_is_an_error_that_names_the_entry(
    old: str, new: str, said: str
) -> None:
    loop = make_loop(experiment(strategy={"type": "LocalSearch"}, budget={"trials": 6}))
    loop.run()
    changed = 0
    for key in list(loop.store.list("journal/")):
        text = loop.store.get(key).decode()
        if old in text and not changed:
            changed += 1
            loop.store.put(key, text.replace(old, new, 1).encode())
    assert changed
    with pytest.raises(JournalError, match=re.escape(said)):
        Record(loop.experiment, loop.store, loop.info).replay()

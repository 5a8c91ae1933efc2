from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kinase.store import Conflict, NotFound, PatientStore, Store, StoreError, StoreUnavailable
from kinase.store import patient as patient_module
from kinase.store.memory import MemoryStore
from kinase.store.testing import StoreContract


class TestPatientStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return PatientStore(MemoryStore("memory://test"), 1)


class Flaky(MemoryStore):
    """Fails as often as it is told to."""

    failures = 0
    error: type[StoreError] = StoreUnavailable

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.calls = 0

    def _fail(self) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error("away")

    def get(self, key: str, limit: int | None = None) -> bytes:
        self._fail()
        return super().get(key, limit)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self._fail()
        super().put(key, data, if_absent=if_absent)

    def list(self, prefix: str = "") -> Iterator[str]:
        self._fail()
        return super().list(prefix)

    def delete(self, key: str) -> None:
        self._fail()
        super().delete(key)


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patient_module, "time", clock)
    return clock


OPERATIONS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("a"),
    "put": lambda store: store.put("a", b"2"),
    "list": lambda store: list(store.list()),
    "delete": lambda store: store.delete("a"),
    "exists": lambda store: store.exists("a"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_repeated_until_it_succeeds(clock: Clock, name: str) -> None:
    flaky, told = Flaky(), list[str]()
    MemoryStore.put(flaky, "a", b"1")
    flaky.failures = 5
    store = PatientStore(flaky, 300, told.append)
    OPERATIONS[name](store)
    assert flaky.calls == 6
    assert len(clock.pauses) == 5
    assert not store.outage.lasting
    assert [text.split(";")[0] for text in told] == ["away", "memory: can be used again"]
    assert "300 s" in told[0]


@pytest.mark.parametrize("name", OPERATIONS)
def test_patience_has_an_end(clock: Clock, name: str) -> None:
    flaky = Flaky()
    flaky.failures = 10_000
    store = PatientStore(flaky, 60)
    with pytest.raises(StoreUnavailable, match="away"):
        OPERATIONS[name](store)
    assert clock.now == pytest.approx(60)
    assert 5 <= flaky.calls <= 15
    assert store.outage.lasting


def test_no_patience_is_one_attempt(clock: Clock) -> None:
    flaky = Flaky()
    flaky.failures = 2
    with pytest.raises(StoreUnavailable):
        PatientStore(flaky, 0).get("a")
    assert (flaky.calls, clock.pauses) == (1, [])


@pytest.mark.parametrize("error", [StoreError, NotFound, Conflict])
def test_what_does_not_pass_is_not_repeated(clock: Clock, error: type[StoreError]) -> None:
    flaky = Flaky()
    flaky.failures, flaky.error = 1, error
    with pytest.raises(error):
        PatientStore(flaky, 300).get("a")
    assert flaky.calls == 1


def test_an_answer_ends_an_outage_whatever_it_says(clock: Clock) -> None:
    flaky, told = Flaky(), list[str]()
    flaky.failures = 2
    store = PatientStore(flaky, 300, told.append)
    with pytest.raises(NotFound):
        store.get("nothing")
    assert not store.outage.lasting
    assert len(told) == 2


def test_a_conditional_put_is_not_repeated(clock: Clock) -> None:
    flaky = Flaky()
    flaky.failures = 1
    with pytest.raises(StoreUnavailable):
        PatientStore(flaky, 300).put("a", b"1", if_absent=True)
    assert flaky.calls == 1


def test_views_share_what_they_know_of_an_outage() -> None:
    class Away(MemoryStore):
        back = threading.Event()

        def get(self, key: str, limit: int | None = None) -> bytes:
            if not self.back.is_set():
                raise StoreUnavailable("away")
            return b"1"

        def sub(self, prefix: str) -> Store:
            return self

    store = PatientStore(Away(), 30)
    view = store.sub("a").sub("b")
    thread = threading.Thread(target=view.get, args=("c",))
    thread.start()
    deadline = time.monotonic() + 10
    while not store.outage.lasting:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    Away.back.set()
    thread.join(10)
    assert not store.outage.lasting

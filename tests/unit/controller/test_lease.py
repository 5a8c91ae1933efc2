from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from kinase_controller import lease as module
from kinase_controller.lease import RENEW, SECONDS, Lease
from kinase_kube import client as kube
from tests.unit.controller.fake_api import FakeApi, unavailable

NAME = "toy-controller"
OWNER = {"apiVersion": "kinase.dev/v1alpha1", "kind": "NASExperiment", "name": "toy", "uid": "u-1"}


class Clock:
    """Time that passes only where the lease sleeps; `at` has what happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: list[tuple[float, Callable[[], Any]]] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for due in [entry for entry in self.at if entry[0] <= self.now]:
            self.at.remove(due)
            due[1]()
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=clock.sleep))
    return clock


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def make(api: FakeApi, holder: str = "pod-a", owner: dict[str, str] = OWNER) -> Lease:
    return Lease(api, "ns", NAME, holder, owner)  # type: ignore[arg-type]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 10))


def there(api: FakeApi) -> dict[str, Any]:
    found = api.see(kube.LEASE, NAME)
    assert found is not None
    return found


def held_by(api: FakeApi, holder: str, uid: str = "u-1", **spec: Any) -> None:
    """Another controller has the lease."""
    body = {
        "metadata": {"name": NAME, "ownerReferences": [{**OWNER, "uid": uid}]},
        "spec": {"holderIdentity": holder, "leaseTransitions": 3, **spec},
    }
    api.put(kube.LEASE, body)


def test_a_lease_that_is_not_there_is_made_and_goes_with_the_experiment(
    api: FakeApi, clock: Clock
) -> None:
    run(make(api).acquire())
    assert there(api)["spec"]["holderIdentity"] == "pod-a"
    assert there(api)["metadata"]["ownerReferences"] == [OWNER]
    assert clock.now == 0


@pytest.mark.parametrize("holder", ["pod-a", "", None])
def test_ours_from_before_a_restart_and_one_let_go_are_taken_at_once(
    api: FakeApi, clock: Clock, holder: str | None
) -> None:
    held_by(api, holder)  # type: ignore[arg-type]
    run(make(api).acquire())
    assert there(api)["spec"]["holderIdentity"] == "pod-a"
    assert there(api)["spec"]["leaseTransitions"] == 4
    assert clock.now == 0


def test_that_of_a_deleted_experiment_of_this_name_is_taken_at_once(
    api: FakeApi, clock: Clock
) -> None:
    held_by(api, "pod-of-long-ago", uid="u-0")
    run(make(api).acquire())
    assert there(api)["spec"]["holderIdentity"] == "pod-a"
    assert there(api)["metadata"]["ownerReferences"] == [OWNER]
    assert clock.now == 0


@pytest.mark.parametrize("year", [1990, 2090])
def test_one_not_renewed_is_taken_over_by_our_own_clock(
    api: FakeApi, clock: Clock, year: int
) -> None:
    held_by(api, "pod-b", renewTime=f"{year}-01-01T00:00:00.000000Z")
    run(make(api).acquire())
    assert there(api)["spec"]["holderIdentity"] == "pod-a"
    assert SECONDS < clock.now <= SECONDS + 2


def test_one_that_is_renewed_is_waited_for_until_it_is_let_go(api: FakeApi, clock: Clock) -> None:
    held_by(api, "pod-b", beat=0)
    for beat in range(1, 20):
        clock.at.append((beat * RENEW, lambda b=beat: held_by(api, "pod-b", beat=b)))  # type: ignore[misc]
    clock.at.append((100.5, lambda: held_by(api, "")))
    run(make(api).acquire())
    assert there(api)["spec"]["holderIdentity"] == "pod-a"
    assert 100.5 <= clock.now <= 102


def test_of_two_that_reach_for_it_one_gets_it(api: FakeApi, clock: Clock) -> None:
    held_by(api, "pod-lost")

    async def reach() -> list[str]:
        leases = {name: make(api, name) for name in ("pod-a", "pod-b")}
        tasks = {n: asyncio.create_task(lease.acquire(), name=n) for n, lease in leases.items()}
        done, rest = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        return [task.get_name() for task in done]

    [winner] = run(reach())
    assert there(api)["spec"]["holderIdentity"] == winner


@pytest.mark.parametrize("verb", ["get", "create", "replace"])
def test_an_outage_while_it_is_reached_for_is_waited_out(
    api: FakeApi, clock: Clock, verb: str
) -> None:
    if verb == "replace":
        held_by(api, "")
    api.fault = lambda v, plural: unavailable() if v == verb and clock.now < 40 else None
    run(make(api).acquire())
    assert there(api)["spec"]["holderIdentity"] == "pod-a"
    assert clock.now >= 40


async def acquired(api: FakeApi, holder: str = "pod-a") -> Lease:
    lease = make(api, holder)
    await lease.acquire()
    return lease


async def renewing(lease: Lease) -> asyncio.Task[None]:
    return asyncio.create_task(lease.renew())


async def turns(clock: Clock, until: float) -> None:
    """Let the others run until that time has come."""
    while clock.now < until:
        await asyncio.sleep(0)


def test_a_lease_is_renewed_so_that_nobody_takes_it_over(api: FakeApi, clock: Clock) -> None:
    async def check() -> None:
        task = await renewing(await acquired(api))
        before = there(api)["metadata"]["resourceVersion"]
        await turns(clock, 10 * RENEW)
        assert not task.done()
        assert int(there(api)["metadata"]["resourceVersion"]) >= int(before) + 8
        task.cancel()

    run(check())


@pytest.mark.parametrize("gone", [False, True])
def test_a_lease_that_is_another_s_or_gone_is_lost(api: FakeApi, clock: Clock, gone: bool) -> None:
    async def check() -> None:
        lease = await acquired(api)
        clock.at.append(
            (7.0, lambda: api.remove(kube.LEASE, NAME) if gone else held_by(api, "pod-b"))
        )
        await lease.renew()  # returns: lost
        assert clock.now <= 7.0 + RENEW + 1

    run(check())


def test_one_changed_by_somebody_else_and_still_ours_is_kept(api: FakeApi, clock: Clock) -> None:
    async def check() -> None:
        lease = await acquired(api)
        task = await renewing(lease)
        for when in (7.0, 23.0):
            clock.at.append(
                (when, lambda: api.change(kube.LEASE, NAME, metadata={"labels": {"seen": "1"}}))
            )
        await turns(clock, 60)
        assert not task.done()
        assert there(api)["spec"]["holderIdentity"] == "pod-a"
        assert there(api)["metadata"]["labels"] == {"seen": "1"}
        task.cancel()

    run(check())


def test_an_outage_of_the_api_server_loses_no_lease(api: FakeApi, clock: Clock) -> None:
    async def check() -> None:
        task = await renewing(await acquired(api))
        api.fault = lambda verb, plural: unavailable() if 10 < clock.now < 120 else None
        await turns(clock, 119)
        assert not task.done()
        before = there(api)["metadata"]["resourceVersion"]
        await turns(clock, 130)
        assert not task.done()
        assert there(api)["metadata"]["resourceVersion"] != before
        task.cancel()

    run(check())


def test_one_taken_over_while_we_were_cut_off_is_lost_when_we_are_back(
    api: FakeApi, clock: Clock
) -> None:
    async def check() -> None:
        lease = await acquired(api)
        api.fault = lambda verb, plural: unavailable() if clock.now < 60 else None
        clock.at.append((30.0, lambda: held_by(api, "pod-b")))
        await lease.renew()
        assert 60 <= clock.now <= 60 + 2 * RENEW

    run(check())


def test_what_is_let_go_is_had_at_once(api: FakeApi, clock: Clock) -> None:
    async def check() -> None:
        await (await acquired(api)).release()
        await acquired(api, "pod-b")
        assert there(api)["spec"]["holderIdentity"] == "pod-b"
        assert clock.now == 0

    run(check())


def test_letting_go_of_what_another_has_changes_nothing(api: FakeApi, clock: Clock) -> None:
    async def check() -> None:
        lease = await acquired(api)
        held_by(api, "pod-b")
        await lease.release()
        assert there(api)["spec"]["holderIdentity"] == "pod-b"
        await make(api).release()  # never held
        assert there(api)["spec"]["holderIdentity"] == "pod-b"

    run(check())

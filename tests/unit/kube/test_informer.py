"""The informer against a server that answers by a script, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from kinase_kube import ApiError, Forbidden, Gone, Informer, Unavailable
from kinase_kube.client import POD, Object
from tests.unit.kube.virtual import now, run

SILENT = object()
"""A stream that says nothing more and does not end."""


@dataclass(frozen=True)
class View:
    """What the tests keep of an object."""

    uid: str
    version: int


def view(item: Object) -> View:
    return View(item["metadata"]["uid"], int(item["metadata"]["resourceVersion"]))


def item(name: str, version: int, uid: str = "") -> Object:
    metadata = {"name": name, "namespace": "ns", "uid": uid or name}
    return {"metadata": {**metadata, "resourceVersion": str(version)}}


def bookmark(version: int) -> tuple[str, Object]:
    return "BOOKMARK", {"metadata": {"resourceVersion": str(version)}}


@dataclass
class Api:
    """A list answers with the next of `lists`, a watch with the next of `streams`."""

    lists: list[Any]
    streams: list[list[Any]]

    def __post_init__(self) -> None:
        self.asked: list[str] = []
        """`list`, and the version of each watch."""
        self.times: list[float] = []

    def _note(self, what: str) -> None:
        self.asked.append(what)
        self.times.append(now())

    async def list(
        self, resource: Any, namespace: str | None, *, keep: Any, **params: Any
    ) -> tuple[list[Any], str]:
        self._note("list")
        await asyncio.sleep(0)
        answer = self.lists.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        version, *items = answer
        return [keep(i) for i in items], str(version)

    async def watch(
        self, resource: Any, namespace: str | None, version: str, **params: Any
    ) -> AsyncIterator[tuple[str, Object]]:
        self._note(version)
        await asyncio.sleep(0)
        for step in self.streams.pop(0) if self.streams else [SILENT]:
            if isinstance(step, ApiError):
                raise step
            if step is SILENT:
                await asyncio.Event().wait()
            yield step


Changes = list[tuple[str, int | None, int | None]]


def informed(
    api: Api, check: Callable[[Informer[View], Changes], Awaitable[None] | None] | None = None
) -> tuple[Informer[View], Changes]:
    """Run an informer for some minutes; returns it with the changes that it told."""
    changes: Changes = []

    def changed(key: tuple[str, str], before: View | None, after: View | None) -> None:
        changes.append((key[1], before and before.version, after and after.version))

    async def main() -> Informer[View]:
        informer: Informer[View] = Informer(api, POD, view, changed)  # type: ignore[arg-type]
        task = asyncio.create_task(informer.run())
        await asyncio.sleep(300)
        if check is not None:
            await (check(informer, changes) or asyncio.sleep(0))
        assert not task.done()
        task.cancel()
        return informer

    return run(main()), changes


def names(informer: Informer[View]) -> dict[str, int]:
    return {key[1]: held.version for key, held in informer.items.items()}


def test_it_lists_then_watches_from_there() -> None:
    api = Api(
        [(5, item("a", 2), item("b", 3))],
        [[("ADDED", item("c", 6)), ("MODIFIED", item("a", 7)), ("DELETED", item("b", 8)), SILENT]],
    )
    informer, changes = informed(api)
    assert api.asked == ["list", "5"]
    assert names(informer) == {"a": 7, "c": 6}
    assert changes == [
        ("a", None, 2),
        ("b", None, 3),
        ("c", None, 6),
        ("a", 2, 7),
        ("b", 3, None),
    ]
    assert informer.synced.is_set()


def test_a_stream_that_ends_is_taken_up_at_the_last_version_bookmarks_included() -> None:
    api = Api([(5,)], [[("ADDED", item("a", 6))], [bookmark(9)]])
    informed(api)
    assert api.asked == ["list", "5", "6", "9"]


def test_a_stream_that_breaks_or_was_silent_for_too_long_is_taken_up_without_a_list() -> None:
    broken = Unavailable(0, "TimeoutError", "no byte for 100 s")
    api = Api([(5,)], [[("ADDED", item("a", 6)), broken], [broken], [broken], []])
    informed(api)
    assert api.asked[:6] == ["list", "5", "6", "6", "6", "6"]
    gaps = [after - before for before, after in zip(api.times, api.times[1:], strict=False)]
    assert gaps[1:4] == pytest.approx([0.2, 0.4, 0.8], rel=0.25)


def test_streams_that_end_at_once_are_not_asked_for_without_a_pause() -> None:
    api = Api([(5,)], [[] for _ in range(1000)])
    informed(api)
    assert len(api.asked) < 40


def test_versions_that_are_always_too_old_are_not_asked_for_without_a_pause() -> None:
    gone = Gone(410, "Expired", "too old resource version")
    api = Api([(5,) for _ in range(5000)], [[gone] for _ in range(5000)])
    informed(api)
    assert len(api.asked) < 4000


def test_410_lists_anew_and_tells_what_is_different() -> None:
    gone = Gone(410, "Expired", "too old resource version")
    api = Api(
        [(5, item("kept", 1), item("changed", 2), item("gone", 3))],
        [[gone], [SILENT]],
    )
    api.lists.append((9, item("kept", 1), item("changed", 7), item("new", 8)))
    informer, changes = informed(api)
    assert api.asked == ["list", "5", "list", "9"]
    assert changes[3:] == [("gone", 3, None), ("changed", 2, 7), ("new", None, 8)]
    assert informer.relists == 2


def test_an_error_that_no_waiting_heals_lists_anew() -> None:
    forbidden = Forbidden(403, "Forbidden", "no right to watch")
    api = Api([forbidden, (5,), (6,)], [[forbidden], [SILENT]])
    informed(api)
    assert api.asked == ["list", "list", "5", "list", "6"]


def test_the_cache_is_synced_only_after_a_list() -> None:
    down = Unavailable(503, "ServiceUnavailable", "starting")
    informer, _ = informed(Api([down] * 20 + [(5,)], []))
    assert informer.synced.is_set()
    informer, _ = informed(Api([down] * 2000, []))
    assert not informer.synced.is_set()


def test_events_that_come_twice_or_late_change_nothing() -> None:
    api = Api(
        [(5, item("a", 4))],
        [
            [
                ("MODIFIED", item("a", 7)),
                ("MODIFIED", item("a", 7)),
                ("MODIFIED", item("a", 6)),
                ("DELETED", item("a", 8)),
                ("DELETED", item("a", 8)),
                ("MODIFIED", item("a", 7)),
                ("ADDED", item("a", 4)),
                SILENT,
            ]
        ],
    )
    informer, changes = informed(api)
    assert names(informer) == {}
    assert changes == [("a", None, 4), ("a", 4, 7), ("a", 7, None)]


def test_what_was_deleted_while_disconnected_is_told_and_its_old_events_are_too_late() -> None:
    gone = Gone(410, "Expired", "too old resource version")
    api = Api([(5, item("a", 4)), (9,)], [[gone], [("MODIFIED", item("a", 7)), SILENT]])
    informer, changes = informed(api)
    assert changes == [("a", None, 4), ("a", 4, None)]
    assert names(informer) == {}


def test_a_reply_is_ahead_of_its_event_which_then_changes_nothing() -> None:
    late = asyncio.Event()

    class Late(Api):
        async def watch(self, *a: Any, **k: Any) -> AsyncIterator[tuple[str, Object]]:
            await late.wait()
            yield "ADDED", item("a", 6)
            await asyncio.Event().wait()

    async def check(informer: Informer[View], changes: Changes) -> None:
        informer.observe(item("a", 6))
        assert changes == [("a", None, 6)]
        late.set()
        await asyncio.sleep(1)
        assert changes == [("a", None, 6)]

    informed(Late([(5,)], []), check)


def test_a_reply_that_comes_after_its_object_is_gone_does_not_bring_it_back() -> None:
    async def check(informer: Informer[View], changes: Changes) -> None:
        informer.observe(item("a", 6))
        informer.observe(item("a", 7))
        assert names(informer) == {}
        assert changes == [("a", None, 6), ("a", 6, None)]

    informed(Api([(5,)], [[("ADDED", item("a", 6)), ("DELETED", item("a", 8)), SILENT]]), check)


def test_a_reply_that_comes_after_a_list_without_its_object_does_not_bring_it_back() -> None:
    """It was made at 6 and deleted at 7; the watch goes on from 9, so nobody would remove it."""
    gone = Gone(410, "Expired", "too old resource version")

    def check(informer: Informer[View], changes: Changes) -> None:
        informer.observe(item("a", 6))
        assert names(informer) == {}

    informed(Api([(5,), (9,)], [[gone], [SILENT]]), check)
    informed(Api([(5, item("a", 4)), (9,)], [[gone], [SILENT]]), check)


def test_a_reply_that_is_newer_than_the_list_stays_through_it() -> None:
    class Slow(Api):
        async def list(self, *a: Any, **k: Any) -> tuple[list[Object], str]:
            answer = await super().list(*a, **k)
            await asyncio.sleep(400)
            return answer

    async def check(informer: Informer[View], changes: Changes) -> None:
        informer.observe(item("a", 10))  # while the list is on its way
        await asyncio.sleep(300)
        assert names(informer) == {"a": 10}

    informed(Slow([(9,)], []), check)


def test_a_name_that_is_used_again_belongs_to_the_newer_object() -> None:
    async def check(informer: Informer[View], changes: Changes) -> None:
        informer.observe(item("a", 8, uid="second"))  # the reply, before both events
        informer._take("DELETED", item("a", 7, uid="first"))
        informer._take("ADDED", item("a", 8, uid="second"))
        assert informer.items["ns", "a"] == View("second", 8)
        assert changes == [("a", None, 4), ("a", 4, 8)]

    informed(Api([(5, item("a", 4, uid="first"))], [[SILENT]]), check)


def test_a_deletion_is_remembered_of_what_was_not_known() -> None:
    """A reply may be overtaken by the whole life of its object where the cache had dropped it."""

    def check(informer: Informer[View], changes: Changes) -> None:
        informer.forget(("ns", "a"))
        informer._take("DELETED", item("a", 8))
        informer.observe(item("a", 7))
        assert names(informer) == {}

    informed(Api([(5, item("a", 4))], [[SILENT]]), check)


def test_the_memory_of_deletions_is_bounded() -> None:
    def check(informer: Informer[View], changes: Changes) -> None:
        for n in range(20_000):
            informer.observe(item(f"n{n}", 10 + 2 * n))
            informer._take("DELETED", item(f"n{n}", 11 + 2 * n))
        assert len(informer._buried) <= 4096
        informer.observe(item("n19999", 10 + 2 * 19_999))
        assert names(informer) == {}

    informed(Api([(5,)], [[SILENT]]), check)


def test_an_informer_of_one_namespace_takes_in_no_other() -> None:
    informer: Informer[View] = Informer(None, POD, view, lambda *a: None, namespace="ns")  # type: ignore[arg-type]
    assert informer.covers(item("a", 1))
    assert not informer.covers({"metadata": {"name": "a", "namespace": "other"}})

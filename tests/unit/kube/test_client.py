"""The client against a server on this machine that answers as the API server does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from kinase_kube import (
    ApiError,
    Client,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Unavailable,
    client,
)
from kinase_kube.client import JOB, POD, TRIAL

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def talk(handler: Handler, use: Callable[[Client], Awaitable[Any]]) -> Any:
    """What a client gets from a server with one handler for everything."""

    async def main() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        kube = Client(Configuration(host=f"http://127.0.0.1:{port}"))
        try:
            return await use(kube)
        finally:
            await kube.close()
            await runner.cleanup()

    return asyncio.run(main())


def status(code: int, reason: str, message: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        body = {"kind": "Status", "code": code, "reason": reason, "message": message}
        return web.json_response(body, status=code)

    return handler


def stream(*chunks: bytes, silent: bool = False) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0.01)
        if silent:
            await asyncio.sleep(0.5)
        return response

    return handler


def line(kind: str, item: Any) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


async def watched(kube: Client) -> list[tuple[str, Any]]:
    return [event async for event in kube.watch(POD, None, "5")]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Invalid),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (413, Invalid),
        (418, ApiError),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_an_error_has_its_kind_and_the_servers_words(code: int, kind: type[ApiError]) -> None:
    with pytest.raises(ApiError) as raised:
        talk(status(code, "Word", "what is wrong"), lambda kube: kube.get(JOB, "ns", "a"))
    assert type(raised.value) is kind
    assert (raised.value.status, raised.value.reason) == (code, "Word")
    assert str(raised.value) == "what is wrong"


def test_an_object_that_etcd_does_not_hold_is_no_outage() -> None:
    with pytest.raises(Invalid):
        talk(
            status(500, "InternalError", "etcdserver: request is too large"),
            lambda kube: kube.create(JOB, "ns", {}),
        )


def test_a_proxys_error_page_is_an_error_too() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>bad gateway</html>")

    with pytest.raises(Unavailable, match="bad gateway"):
        talk(handler, lambda kube: kube.get(JOB, "ns", "a"))


def test_no_server_and_no_json_are_outages() -> None:
    async def use(kube: Client) -> Any:
        return await kube.get(JOB, "ns", "a")

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    with pytest.raises(Unavailable):
        talk(handler, use)
    with pytest.raises(Unavailable):
        asyncio.run(use(Client(Configuration(host="http://127.0.0.1:9"))))


def test_an_error_without_a_message_says_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return web.Response()

    monkeypatch.setattr(client, "TIMEOUT", 0.05)
    with pytest.raises(Unavailable, match=r"^GET /apis/.*/jobs/a: no answer in time$"):
        talk(silent, lambda kube: kube.get(JOB, "ns", "a"))


def test_a_list_is_read_page_by_page() -> None:
    asked = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        page = int(request.query.get("continue", 0))
        metadata = {"resourceVersion": "7", **({"continue": str(page + 1)} if page < 2 else {})}
        return web.json_response({"items": [{"n": page}], "metadata": metadata})

    found = talk(handler, lambda kube: kube.list(POD, "ns", labelSelector="a=b"))
    assert found == ([{"n": 0}, {"n": 1}, {"n": 2}], "7")
    assert [q.get("continue") for q in asked] == [None, "1", "2"]
    assert {q["labelSelector"] for q in asked} == {"a=b"}


def test_writes_go_where_they_belong() -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        body = await request.json()
        where = f"{request.method} {request.path_qs}"
        seen.append((where, request.headers["Content-Type"], body))
        return web.json_response({})

    async def use(kube: Client) -> None:
        await kube.create(JOB, "ns", {"a": 1})
        await kube.merge(TRIAL, "ns", "t", {"b": 2}, "status")
        await kube.apply(TRIAL, "ns", "t", {"c": 3}, manager="m", subresource="status")
        await kube.delete(POD, "ns", "p", uid="u", policy="Foreground")

    talk(handler, use)
    trial = "/apis/kinase.dev/v1alpha1/namespaces/ns/nastrials/t/status"
    assert seen == [
        ("POST /apis/batch/v1/namespaces/ns/jobs", "application/json", {"a": 1}),
        (f"PATCH {trial}", "application/merge-patch+json", {"b": 2}),
        (
            f"PATCH {trial}?fieldManager=m&force=true",
            "application/apply-patch+yaml",
            {"c": 3},
        ),
        (
            "DELETE /api/v1/namespaces/ns/pods/p",
            "application/json",
            {"propagationPolicy": "Foreground", "preconditions": {"uid": "u"}},
        ),
    ]


def test_a_watch_yields_its_events_however_they_are_cut() -> None:
    text = line("ADDED", {"a": 1}) + line("BOOKMARK", {"b": 2}) + line("DELETED", {"c": 3})
    cut = [text[i : i + 7] for i in range(0, len(text), 7)]
    wanted = [("ADDED", {"a": 1}), ("BOOKMARK", {"b": 2}), ("DELETED", {"c": 3})]
    assert talk(stream(*cut), watched) == wanted
    assert talk(stream(text), watched) == wanted
    assert talk(stream(), watched) == []


def test_an_event_may_be_as_large_as_an_object() -> None:
    large = {"job": "x" * 1_500_000}
    text = line("ADDED", large) + line("MODIFIED", {"a": 1})
    assert talk(stream(text), watched) == [("ADDED", large), ("MODIFIED", {"a": 1})]


def test_a_version_that_is_too_old_is_told_in_the_stream_or_before_it() -> None:
    gone = {"code": 410, "reason": "Expired", "message": "too old resource version"}
    for handler in (stream(line("ERROR", gone)), status(410, "Expired", "too old")):
        with pytest.raises(Gone):
            talk(handler, watched)


def test_a_stream_that_is_cut_short_is_an_outage() -> None:
    with pytest.raises(Unavailable):
        talk(stream(line("ADDED", {"a": 1}), b'{"type": "ADD'), watched)


def test_a_silent_stream_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENCE", 0.2)
    with pytest.raises(Unavailable):
        talk(stream(line("ADDED", {"a": 1}), silent=True), watched)

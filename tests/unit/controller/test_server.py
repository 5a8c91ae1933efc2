from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from kinase.api.trial import Point
from kinase_controller.metrics import Metrics
from kinase_controller.server import BODY, RATE, Server, _Rates
from kinase_controller.trials import Seen

Http = TestClient[Any, Any]
POINT = {"epoch": 2, "metrics": {"val_accuracy": 0.5}, "deviceSeconds": 1.5}


def seen(number: int, token: str | None, attempt: int = 1) -> Seen:
    return Seen(
        name=f"toy-{number:05d}",
        uid="u",
        version=1,
        number=number,
        kind="Search",
        attempt=attempt,
        stop=False,
        token=token,
        deleting=False,
        phase="",
        reason="",
        message="",
        reported=0,
    )


class Search:
    """What the endpoint is in front of."""

    def __init__(self) -> None:
        self.trials = {7: seen(7, "token-of-seven"), 8: seen(8, "token-of-eight")}
        self.posted: list[tuple[int, Point]] = []
        self.go_on = True
        self.until: bool | int | None = None
        self.html: bytes | None = None
        self.alive = self.ready = True

    def trial(self, number: int) -> Seen | None:
        return self.trials.get(number)

    def post(self, number: int, point: Point) -> bool:
        self.posted.append((number, point))
        return self.go_on

    def rests(self, number: int, epoch: int) -> bool | int | None:
        self.asked = (number, epoch)
        return self.until

    async def report(self) -> bytes | None:
        return self.html

    def metrics(self) -> bytes:
        return Metrics("ns", "toy").page()


def served(check: Callable[[Http, Search], Awaitable[None]]) -> None:
    """Run a check against a server of its own."""

    async def run() -> None:
        search = Search()
        async with TestClient(TestServer(Server(search).application())) as http:
            await check(http, search)

    asyncio.run(run())


async def post(
    http: Http, number: int = 7, token: str = "token-of-seven", body: Any = None
) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(POINT if body is None else body)
    headers = {"Authorization": f"Bearer {token}"}
    async with http.post(f"/v1/trials/{number}/points", data=data, headers=headers) as reply:
        return reply.status, await reply.text()


def test_a_trial_posts_under_its_own_token_and_is_told_to_go_on() -> None:
    async def check(http: Http, search: Search) -> None:
        status, text = await post(http)
        assert (status, json.loads(text)) == (200, {"continue": True})
        [(number, point)] = search.posted
        assert (number, point.epoch, point.metrics) == (7, 2, {"val_accuracy": 0.5})

    served(check)


def test_a_trial_that_shall_stop_is_told_so() -> None:
    async def check(http: Http, search: Search) -> None:
        search.go_on = False
        assert json.loads((await post(http))[1]) == {"continue": False}

    served(check)


@pytest.mark.parametrize(
    ("until", "attempt", "answer"),
    [
        (9, 1, {"continue": True, "until": 9}),
        (None, 1, {"wait": True}),
        (False, 1, {"continue": False}),
        (9, 2, {"continue": False}),
    ],
)
def test_a_trial_that_rests_is_told_whether_it_continues(
    until: bool | int | None, attempt: int, answer: dict[str, Any]
) -> None:
    async def check(http: Http, search: Search) -> None:
        search.until = until
        body = {**POINT, "attempt": attempt, "rests": True}
        assert json.loads((await post(http, body=body))[1]) == answer
        assert not search.posted, "its point was posted before"

    served(check)


def test_another_token_and_an_unknown_trial_get_the_same_answer() -> None:
    async def check(http: Http, search: Search) -> None:
        search.trials[9] = seen(9, None)
        wrong = await post(http, 7, "token-of-eight")
        assert wrong[0] == 401
        assert await post(http, 12345) == wrong
        assert await post(http, 7, "") == wrong
        assert await post(http, 9, "") == wrong, "a trial without a token takes no posts"
        assert not search.posted

    served(check)


def test_a_token_that_is_no_text_is_a_wrong_one() -> None:
    async def check(http: Http, search: Search) -> None:
        reader, writer = await asyncio.open_connection(http.host, http.port)
        writer.write(
            b"POST /v1/trials/7/points HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
            b"Authorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        writer.close()

    served(check)


def test_a_body_above_64_kib_is_refused_however_it_is_sent() -> None:
    async def check(http: Http, search: Search) -> None:
        big = json.dumps({**POINT, "metrics": {"x" * BODY: 1.0}}).encode()
        assert (await post(http, body=big))[0] == 413

        async def chunks() -> Any:
            for start in range(0, len(big), 4096):
                yield big[start : start + 4096]

        headers = {"Authorization": "Bearer token-of-seven"}
        async with http.post("/v1/trials/7/points", data=chunks(), headers=headers) as reply:
            assert reply.status == 413
        assert not search.posted

    served(check)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"not json", "body"),
        ([], "body"),
        ({**POINT, "epoch": 0}, "epoch"),
        ({**POINT, "epoch": "many"}, "epoch"),
        ({**POINT, "deviceSeconds": -1}, "deviceSeconds"),
        ({**POINT, "metrics": {"val_accuracy": "high"}}, "metrics.val_accuracy"),
        ({**POINT, "attempt": 0}, "attempt"),
        ({**POINT, "__class__": "x"}, "__class__"),
        ({"epoch": 1}, "metrics"),
    ],
)
def test_garbage_is_refused_by_the_name_of_the_field(body: Any, place: str) -> None:
    async def check(http: Http, search: Search) -> None:
        status, text = await post(http, body=body)
        assert status == 400
        assert text.startswith(f"{place}: ")
        assert not search.posted

    served(check)


def test_a_point_of_a_past_attempt_is_passed_over() -> None:
    async def check(http: Http, search: Search) -> None:
        search.trials[7] = seen(7, "token-of-seven", attempt=2)
        search.go_on = False
        status, text = await post(http, body={**POINT, "attempt": 1})
        assert (status, json.loads(text)) == (200, {"continue": True})
        assert not search.posted
        await post(http, body={**POINT, "attempt": 2})
        assert len(search.posted) == 1

    served(check)


def test_a_flood_is_refused_and_other_trials_are_not_held_up() -> None:
    async def check(http: Http, search: Search) -> None:
        codes = [(await post(http))[0] for _ in range(int(RATE) + 30)]
        assert codes[: int(RATE)] == [200] * int(RATE)
        assert 429 in codes
        assert (await post(http, 8, "token-of-eight"))[0] == 200
        # what is not of the trial costs it nothing
        for _ in range(30):
            await post(http, 8, "token-of-seven")
        assert (await post(http, 8, "token-of-eight"))[0] == 200

    served(check)


def test_a_flood_is_let_through_at_the_rate() -> None:
    now = [0.0]
    rates = _Rates(lambda: now[0])
    let = 0
    for step in range(1000):
        now[0] = step / 100
        let += rates.allow(1)
    assert let == pytest.approx(10 * RATE + RATE, abs=2)


def test_the_report_is_awaited_until_the_search_has_begun() -> None:
    async def check(http: Http, search: Search) -> None:
        async with http.get("/") as reply:
            assert reply.status == 503
        search.html = b"<!doctype html><title>toy</title>"
        async with http.get("/") as reply:
            assert reply.status == 200
            assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
            assert await reply.read() == search.html

    served(check)


def test_health_says_whether_the_loop_goes_round_and_readiness_who_holds_the_lease() -> None:
    async def check(http: Http, search: Search) -> None:
        async def codes() -> tuple[int, int]:
            async with http.get("/healthz") as health, http.get("/readyz") as ready:
                return health.status, ready.status

        assert await codes() == (200, 200)
        search.ready = False
        assert await codes() == (200, 503)
        search.alive = False
        assert await codes() == (500, 503)

    served(check)


def test_the_metrics_page_is_one_that_prometheus_reads() -> None:
    async def check(http: Http, search: Search) -> None:
        async with http.get("/metrics") as reply:
            assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            families = {f.name: f for f in text_string_to_metric_families(await reply.text())}
        assert {"kinase_trials", "kinase_trial_seconds", "kinase_store_operations"} <= set(families)

    served(check)


def test_other_methods_and_places_are_not_there() -> None:
    async def check(http: Http, search: Search) -> None:
        for method, place, code in (
            ("GET", "/v1/trials/7/points", 405),
            ("POST", "/v1/trials/-1/points", 404),
            ("POST", "/v1/trials/99999999/points", 404),
            ("POST", "/", 405),
            ("GET", "/../../etc/passwd", 404),
        ):
            async with http.request(method, place) as reply:
                assert reply.status == code, place

    served(check)

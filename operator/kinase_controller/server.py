"""The controller's HTTP endpoint, to which trials post, and from which people and Prometheus read.

Posted points are hints. They are bounded, belong to the trial whose token they carry, and only
affect what is shown and whether the trial continues.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from typing import Protocol

from aiohttp import web
from pydantic import Field, ValidationError

from kinase.api.trial import Point
from kinase_controller.trials import Seen

log = logging.getLogger("kinase")

BODY = 64 << 10
"""Maximum size of a request's body in bytes."""
RATE = 20.0
"""Maximum requests per second of one trial, and the size of a burst."""
REPORT_SECONDS = 10.0
"""Seconds that a reader waits for the report."""


class Post(Point):
    """A trial's post after an epoch."""

    attempt: int = Field(default=1, ge=1)
    """The attempt that measured the metrics."""
    rests: bool = False
    """Whether the trial has left its result after this epoch, and waits for whether to continue."""


class Search(Protocol):
    """The controller's answers for the endpoint."""

    def trial(self, number: int) -> Seen | None:
        """The trial of this number."""

    def post(self, number: int, point: Point) -> bool:
        """Record a point; return whether the trial should continue."""

    def rests(self, number: int, epoch: int) -> bool | int | None:
        """Record that a trial waits after an epoch; return up to which it continues, False if it
        does not, and None if that is not decided."""

    async def report(self) -> bytes | None:
        """The current report, or None if there is none yet."""

    def metrics(self) -> bytes:
        """The page that Prometheus scrapes."""

    @property
    def ready(self) -> bool:
        """Whether the search is running."""

    @property
    def alive(self) -> bool:
        """Whether the loop is making turns."""


class _Rates:
    """A bucket of requests for each trial."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[int, tuple[float, float]] = {}

    def allow(self, trial: int) -> bool:
        now = self._clock()
        left, since = self._left.get(trial, (RATE, now))
        left = min(RATE, left + (now - since) * RATE)
        allowed = left >= 1  # rejected requests are not counted, or a flood would never end
        self._left[trial] = left - allowed, now
        if len(self._left) > 20_000:
            self._left.clear()
        return allowed


class Server:
    """Serves one controller's search."""

    def __init__(self, search: Search) -> None:
        """Serve nothing before `start`."""
        self._search = search
        self._rates = _Rates()
        self._runner: web.AppRunner | None = None

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=BODY)
        app.add_routes(
            [
                web.post(r"/v1/trials/{number:\d{1,7}}/points", self._post),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/", self._report),
            ]
        )
        return app

    async def start(self, host: str, port: int) -> int:
        """Start serving, and return the port."""
        self._runner = web.AppRunner(self.application(), access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        seen = self._search.trial(number)
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        # the same answer for a trial that does not exist, so that numbers cannot be probed
        if (
            seen is None
            or not seen.token
            or not hmac.compare_digest(given.encode(errors="replace"), seen.token.encode())
        ):
            raise web.HTTPUnauthorized(text="the token is not that of this trial\n")
        if not self._rates.allow(number):
            raise web.HTTPTooManyRequests(text=f"at most {RATE:g} requests a second\n")
        try:
            async with asyncio.timeout(5):
                post = Post.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "body"
            raise web.HTTPBadRequest(text=f"{place}: {first['msg']}\n") from None
        except TimeoutError:
            raise web.HTTPRequestTimeout() from None
        if post.rests:
            known = post.attempt == seen.attempt
            return self._rest(self._search.rests(number, post.epoch) if known else False)
        go_on = True
        if post.attempt == seen.attempt:
            point = Point(
                epoch=post.epoch, metrics=post.metrics, device_seconds=post.device_seconds
            )
            go_on = self._search.post(number, point)
        return web.json_response({"continue": go_on})

    @staticmethod
    def _rest(until: bool | int | None) -> web.Response:
        if until is None:
            return web.json_response({"wait": True})
        if until is False:
            return web.json_response({"continue": False})
        return web.json_response({"continue": True, "until": until})

    async def _report(self, request: web.Request) -> web.Response:
        html = await self._search.report()
        if html is None:
            return web.Response(status=503, text="the search has not started\n")
        return web.Response(body=html, content_type="text/html", charset="utf-8")

    async def _healthz(self, request: web.Request) -> web.Response:
        alive = self._search.alive
        return web.Response(status=200 if alive else 500, text="ok\n" if alive else "stuck\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        ready = self._search.ready
        return web.Response(status=200 if ready else 503, text="ok\n" if ready else "starting\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4"}
        return web.Response(body=self._search.metrics(), headers=headers)

"""Posts each epoch's metrics to the experiment's controller, which can answer to stop.

Posts are hints. Errors are ignored, and the time that training waits is bounded.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPMessage
from typing import IO, Any

from kinase.api.trial import Point

TIMEOUT = 2.0
"""Maximum seconds that an epoch waits for an answer."""
MOST_BYTES = 65536
"""Maximum size of an answer in bytes."""
PATIENCE = 3
"""Failures in a row after which posts are skipped for some epochs."""
SHARE = 10.0
"""After that, at most one second in this many is spent on posts."""
LONGEST_PAUSE = 30.0
HOLD = 10.0
"""Maximum seconds that a trial which rests waits for whether to continue."""
ASK_EVERY = 0.1
"""Seconds between two questions."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: the token is for one host only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Follow no redirect; it counts as a failure."""


class Push:
    """Connection of a trial to its controller."""

    def __init__(self, url: str, token: str, attempt: int, timeout: float = TIMEOUT) -> None:
        """Post to `url`, through the environment's proxies.

        Raises:
            ValueError: it is not an http(s) URL.
        """
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not a URL to post to; use http://HOST:PORT/PATH")
        self._url, self._token, self._attempt, self._timeout = url, token, attempt, timeout
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._failures = 0
        self._not_before = 0.0

    @classmethod
    def of(cls, environ: Mapping[str, str], attempt: int) -> Push | None:
        """The receiver given by the environment, or None."""
        url = environ.get("KINASE_REPORT_URL")
        return cls(url, environ.get("KINASE_REPORT_TOKEN", ""), attempt) if url else None

    def __call__(self, point: Point) -> bool:
        """Post a point; return False if the answer asks the trial to stop."""
        began = time.monotonic()
        if began < self._not_before:
            return True
        answers: list[bool] = []
        # in a thread, because a socket's timeout does not bound the look-up of a name, or a
        # server that sends a byte now and then
        thread = threading.Thread(target=self._post, args=(point, answers), daemon=True)
        thread.start()
        thread.join(self._timeout)
        if answers:
            self._failures = 0
            return answers[0]
        self._failures += 1
        if self._failures >= PATIENCE:
            now = time.monotonic()
            pause = max(SHARE * (now - began), 0.5 * 2 ** min(self._failures - PATIENCE, 10))
            self._not_before = now + min(pause, LONGEST_PAUSE)
        return True

    def wait(self, point: Point, asked_to_end: Callable[[], bool] = lambda: False) -> int | None:
        """Say that the trial rests after this point and has left its result; return the epoch up
        to which it continues. None: it ends, because the answer says so, or there is none in
        time."""
        deadline = time.monotonic() + HOLD
        while time.monotonic() < deadline and not asked_to_end():
            answers: list[Any] = []
            thread = threading.Thread(target=self._rest, args=(point, answers), daemon=True)
            thread.start()
            thread.join(self._timeout)
            match answers:
                case [{"continue": True, "until": int(until)}]:
                    return until
                case [{"wait": True}]:
                    time.sleep(ASK_EVERY)
                case _:  # also of a controller that does not know the question
                    return None
        return None

    def _rest(self, point: Point, answers: list[Any]) -> None:
        with contextlib.suppress(Exception):  # of any kind; errors are ignored
            answers.append(self._ask({**self._body(point), "rests": True}))

    def _post(self, point: Point, answers: list[bool]) -> None:
        try:
            document = self._ask(self._body(point))
        except Exception:  # of any kind; errors are ignored
            return
        if isinstance(document, dict) and isinstance(document.get("continue"), bool):
            answers.append(document["continue"])

    def _body(self, point: Point) -> dict[str, Any]:
        return {"attempt": self._attempt, **point.model_dump(by_alias=True)}

    def _ask(self, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._url,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"},
        )
        with self._opener.open(request, timeout=self._timeout) as reply:
            data = reply.read(MOST_BYTES + 1)
        return json.loads(data) if len(data) <= MOST_BYTES else None

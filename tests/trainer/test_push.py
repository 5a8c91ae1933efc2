"""Posting to a controller that answers, refuses, hangs, or does not exist."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kinase.api.trial import Point
from kinase_trainer import push as push_module
from kinase_trainer.push import MOST_BYTES, PATIENCE, Push

POINT = Point(epoch=3, metrics={"val_accuracy": 0.5}, device_seconds=1.25)
TOKEN = "a-token-of-one-trial"


class Controller(ThreadingHTTPServer):
    """Answers as it is told, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, bytes] = (200, b'{"continue": true}')
        self.headers: dict[str, str] = {}
        self.before: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1/trials/7/points"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    server: Controller

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, dict(self.headers), body))
        self.server.before(self)
        status, data = self.server.answer
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers), None))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"continue": false}')


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def controller() -> Iterator[Controller]:
    with Controller() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_what_is_posted(controller: Controller) -> None:
    environ = {"KINASE_REPORT_URL": controller.url, "KINASE_REPORT_TOKEN": TOKEN}
    push = Push.of(environ, attempt=2)
    assert push is not None
    assert push(POINT)
    [(path, headers, body)] = controller.seen
    assert path == "/v1/trials/7/points"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "attempt": 2,
        "epoch": 3,
        "metrics": {"val_accuracy": 0.5},
        "deviceSeconds": 1.25,
    }
    assert Point.model_validate({k: v for k, v in body.items() if k != "attempt"}) == POINT


def test_there_may_be_nobody_to_tell() -> None:
    assert Push.of({}, 1) is None
    assert Push.of({"KINASE_REPORT_URL": ""}, 1) is None


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x", "controller:8080", "nonsense"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL to post to"):
        Push(url, TOKEN, 1)


def test_the_answer_says_whether_to_stop(controller: Controller) -> None:
    push = Push(controller.url, TOKEN, 1)
    for goes_on in (True, False, True):
        controller.answer = (200, json.dumps({"continue": goes_on, "more": 1}).encode())
        assert push(POINT) is goes_on


@pytest.mark.parametrize(
    "answer",
    [
        (401, b'{"continue": false}'),
        (403, b""),
        (404, b'{"continue": false}'),
        (500, b'{"continue": false}'),
        (200, b""),
        (200, b"<html>"),
        (200, b"[false]"),
        (200, b"false"),
        (200, b'{"continue": "false"}'),
        (200, b'{"continue": 0}'),
        (200, b'{"stop": true}'),
        (200, b"\xff\xfe"),
        (200, b"[" * 5000),
        (200, b'{"continue": false}' + b" " * MOST_BYTES),
    ],
)
def test_anything_else_is_passed_over(controller: Controller, answer: tuple[int, bytes]) -> None:
    controller.answer = answer
    assert Push(controller.url, TOKEN, 1)(POINT)
    assert len(controller.seen) == 1


def test_a_huge_answer_is_not_read_whole(controller: Controller) -> None:
    sent = 0

    def flood(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        while sent < 2**30:
            handler.wfile.write(b" " * 2**16)
            sent += 2**16

    controller.before = flood
    assert Push(controller.url, TOKEN, 1)(POINT)
    time.sleep(0.2)
    assert sent < 2**26  # what fits in the sockets' buffers


def test_the_token_goes_to_no_other_place(controller: Controller) -> None:
    controller.answer = (302, b"")
    controller.headers = {"Location": controller.url.replace("points", "elsewhere")}
    assert Push(controller.url, TOKEN, 1)(POINT)
    assert [path for path, _, _ in controller.seen] == ["/v1/trials/7/points"]


def test_a_refused_connection_costs_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    began = time.monotonic()
    assert Push(f"http://127.0.0.1:{port}/", TOKEN, 1)(POINT)
    assert time.monotonic() - began < 1


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(5)


def dripping(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, which resets a socket's timeout each time."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b" ")
        time.sleep(0.1)


@pytest.mark.parametrize("how", [silent, dripping])
def test_a_hang_is_bounded(
    controller: Controller, how: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    controller.before = how
    began = time.monotonic()
    assert Push(controller.url, TOKEN, 1, timeout=0.5)(POINT)
    assert 0.4 < time.monotonic() - began < 4


def test_a_name_that_is_not_resolved_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
    began = time.monotonic()
    assert Push("http://controller.ns.svc:8080/", TOKEN, 1, timeout=0.2)(POINT)
    assert time.monotonic() - began < 4


def test_epochs_are_left_out_after_failures_in_a_row(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(push_module.time, "monotonic", lambda: now)
    push = Push(controller.url, TOKEN, 1)
    controller.answer = (503, b"")
    asked = []
    for _ in range(600):  # epochs of a tenth of a second
        before = len(controller.seen)
        assert push(POINT)
        asked.append(len(controller.seen) - before)
        now += 0.1
    assert asked[:PATIENCE] == [1] * PATIENCE
    gaps = [i for i, each in enumerate(asked) if each]
    gaps = [b - a for a, b in zip(gaps[PATIENCE - 1 :], gaps[PATIENCE:], strict=False)]
    assert gaps == sorted(gaps)
    assert gaps[0] <= 6
    assert sum(asked) < 15
    controller.answer = (200, b'{"continue": true}')
    now += push_module.LONGEST_PAUSE
    asked = len(controller.seen)
    for _ in range(5):
        assert push(POINT)
    assert len(controller.seen) == asked + 5  # an answer mends all


def test_long_epochs_are_not_left_out(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(push_module.time, "monotonic", lambda: now)
    push = Push(controller.url, TOKEN, 1)
    controller.answer = (503, b"")
    for _ in range(20):
        assert push(POINT)
        now += 60
    assert len(controller.seen) == 20


def test_a_proxy_of_the_environment_is_used(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", controller.url.replace("/v1/trials/7/points", ""))
    controller.answer = (200, b'{"continue": false}')
    url = "http://controller.ns.svc:8080/v1/trials/7/points"
    assert not Push(url, TOKEN, 1)(POINT)
    assert controller.seen[0][0] == url
    monkeypatch.setenv("no_proxy", ".svc")
    assert Push(url, TOKEN, 1, timeout=0.5)(POINT)
    assert len(controller.seen) == 1


def answers(controller: Controller, *documents: Any) -> None:
    """What the controller answers, one after the other."""
    left = list(documents)

    def before(handler: BaseHTTPRequestHandler) -> None:
        controller.answer = (200, json.dumps(left.pop(0)).encode())

    controller.before = before


def test_a_trial_that_rests_asks_until_it_is_answered(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_module, "ASK_EVERY", 0.001)
    answers(controller, {"wait": True}, {"wait": True}, {"continue": True, "until": 9})
    assert Push(controller.url, TOKEN, 2).wait(POINT) == 9
    assert [body["rests"] for _, _, body in controller.seen] == [True] * 3
    assert {body["attempt"] for _, _, body in controller.seen} == {2}


@pytest.mark.parametrize(
    "answer",
    [{"continue": False}, {"continue": True}, {"continue": True, "until": "9"}, {}, [], None],
)
def test_any_other_answer_ends_the_wait(controller: Controller, answer: Any) -> None:
    answers(controller, answer)
    assert Push(controller.url, TOKEN, 1).wait(POINT) is None
    assert len(controller.seen) == 1


def test_a_controller_that_does_not_know_the_question_or_is_down_ends_the_wait(
    controller: Controller,
) -> None:
    controller.answer = (400, b"rests: Extra inputs are not permitted")
    assert Push(controller.url, TOKEN, 1).wait(POINT) is None
    assert Push("http://127.0.0.1:9/points", TOKEN, 1).wait(POINT) is None


def test_the_wait_is_bounded(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "ASK_EVERY", 0.001)
    monkeypatch.setattr(push_module, "HOLD", 0.05)
    controller.answer = (200, b'{"wait": true}')
    assert Push(controller.url, TOKEN, 1).wait(POINT) is None
    assert Push(controller.url, TOKEN, 1).wait(POINT, lambda: True) is None

"""The report, served on this machine."""

from __future__ import annotations

import http.client
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinase.cli_options import Access, Target
from kinase_kubectl import report
from kinase_kubectl.problem import Problem
from kinase_kubectl.report import Page


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Page | Problem]:
    """What the cluster answers, one after the other; the last one again and again."""
    answers: list[Page | Problem] = [Page(b"<p>one", False)]

    def current(target: Target, name: str, access: Access) -> Page:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Problem):
            raise found
        return found

    monkeypatch.setattr(report, "current", current)
    return answers


@pytest.fixture
def address(pages: list[Page | Problem], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that runs."""
    found: list[str] = []
    started = threading.Event()
    servers: list[http.server.ThreadingHTTPServer] = []
    make = http.server.ThreadingHTTPServer

    def listening(*arguments: object) -> http.server.ThreadingHTTPServer:
        servers.append(make(*arguments))  # type: ignore[arg-type]
        return servers[0]

    monkeypatch.setattr(http.server, "ThreadingHTTPServer", listening)

    def say(text: str) -> None:
        found.append(text)
        started.set()

    arguments = (Target(), "digits", Access(), 0, False, say)
    thread = threading.Thread(target=report.serve, args=arguments)
    thread.start()
    assert started.wait(10)
    yield int(found[0].split(":")[2].split("/")[0])
    servers[0].shutdown()
    thread.join(10)


def ask(port: int, path: str = "/", **headers: str) -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": f"localhost:{port}", **headers})
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.getheader("Refresh")


def test_each_look_is_at_the_search_as_it_is_then(
    address: int, pages: list[Page | Problem]
) -> None:
    pages[:] = [Page(b"<p>two", False), Problem("the pod is gone"), Page(b"<p>end", True)]
    assert ask(address) == (200, b"<p>two", "10")
    assert ask(address) == (502, b"the pod is gone\n", "10")  # and the browser asks again
    assert ask(address) == (200, b"<p>end", None)
    pages[:] = [Problem("nobody is asked any more")]
    assert ask(address) == (200, b"<p>end", None)


def test_it_is_for_this_machine_alone(address: int) -> None:
    assert ask(address, Host="evil.example")[0] == 403
    assert ask(address, Host=f"evil.example:{address}")[0] == 403
    assert ask(address, "/other")[0] == 404


def test_a_port_that_is_taken(address: int, pages: list[Page | Problem]) -> None:
    with pytest.raises(Problem, match=f"port {address} of this machine is taken"):
        report.serve(Target(), "digits", Access(), address, False, print)


def test_it_is_written_and_opened(
    pages: list[Page | Problem],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    report.write(Target(), "nasx/digits", Access(), None, True, said.append)
    assert said == ["digits-report.html"]
    assert (tmp_path / "digits-report.html").read_bytes() == b"<p>one"
    assert opened == [(tmp_path / "digits-report.html").as_uri()]
    report.write(Target(), "digits", Access(), tmp_path / "x.html", False, said.append)
    assert len(opened) == 1
    report.write(Target(), "digits", Access(), Path("-"), True, said.append)
    assert capsysbinary.readouterr().out == b"<p>one"
    with pytest.raises(Problem, match=r"there is no folder .*; create it"):
        report.write(Target(), "digits", Access(), tmp_path / "a" / "b", False, said.append)

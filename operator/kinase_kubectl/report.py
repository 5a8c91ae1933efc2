"""`kinase report`: an experiment's report, from its current source.

While the search runs, its controller renders the report. After the end, it is in the store. While
the search is suspended, it is rendered here, from the journal in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kinase.api.status import ConditionType
from kinase.cli_options import Access, Target
from kinase.report import ReportData
from kinase.store import NotFound, StoreError
from kinase.words import unwritable
from kinase_kube.client import Object
from kinase_kubectl.cluster import Cluster, plain_name
from kinase_kubectl.problem import Problem
from kinase_kubectl.store_access import StoreAccess, prepare
from kinase_kubectl.views import Experiment

REFRESH = 10
"""Seconds after which a browser reloads the page while the search runs."""

Say = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A report at the moment."""

    html: bytes
    final: bool
    """Whether it can no longer change."""


def current(target: Target, name: str, access: Access) -> Page:
    """The report of an experiment.

    Raises:
        Problem: the report is not available.
    """
    experiment, pod, place = asyncio.run(_find(target, name, access))
    if pod is not None:
        from kinase_kubectl.forward import fetch

        status, body = fetch(target, experiment.namespace, pod)
        if status == HTTPStatus.OK:
            return Page(body, final=False)
        said = body.decode(errors="replace").strip()
        raise Problem(f"there is no report of {name} yet: {said or status}{_why(experiment)}")
    assert place is not None
    if not experiment.finished:
        return Page(_rendered(experiment, place), final=False)
    with place.explaining_errors():
        try:
            return Page(place.open().get("report.html"), final=True)
        except NotFound as error:
            raise Problem(f"the report of {name} is no longer in the store: {error}") from None


async def _find(
    target: Target, name: str, access: Access
) -> tuple[Experiment, str | None, StoreAccess | None]:
    """The experiment, and its controller's pod or otherwise the store."""
    name = plain_name(name)
    async with Cluster.open(target) as cluster:
        experiment = await cluster.experiment(name)
        pods = [] if experiment.finished else await cluster.controller_pods(experiment)
        for pod in reversed(pods):
            if _ready(pod):
                return experiment, str(pod["metadata"]["name"]), None
        return experiment, None, await _stored(cluster, experiment, access)


async def _stored(cluster: Cluster, experiment: Experiment, access: Access) -> StoreAccess:
    """The store of an experiment that has started."""
    if not experiment.finished and experiment.status.start_time is None:
        raise Problem(
            f"there is no report of {experiment.name} yet: it has not started{_why(experiment)}"
        )
    return await prepare(cluster, experiment, access)


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return "deletionTimestamp" not in pod["metadata"] and any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )


def _why(experiment: Experiment) -> str:
    """Messages of conditions that explain why a search makes no progress."""
    for kind in (ConditionType.READY, ConditionType.PROGRESSING):
        condition = experiment.condition(kind)
        if condition is not None and condition.status != "True":
            return f" ({': '.join(filter(None, (condition.reason, condition.message)))})"
    return ""


def gathered(target: Target, name: str, access: Access) -> ReportData:
    """Data for an experiment's report, from the journal in its store.

    Raises:
        Problem: the experiment has not started, or the store fails.
    """

    async def find() -> tuple[Experiment, StoreAccess]:
        async with Cluster.open(target) as cluster:
            experiment = await cluster.experiment(plain_name(name))
            return experiment, await _stored(cluster, experiment, access)

    found = asyncio.run(find())
    with parts_told():
        return _gathered(*found)


def _gathered(experiment: Experiment, place: StoreAccess) -> ReportData:
    """Gather the data from the journal, as the controller does."""
    from kinase.api import NASExperiment
    from kinase.experiment.local import open_run
    from kinase.report.gather import gather

    manifest = NASExperiment.model_validate(experiment.body)
    root = place.uri.removesuffix(f"/{manifest.directory}")
    fields = {"uri": root, "endpoint": place.endpoint, "region": place.region}
    storage = manifest.spec.storage.model_copy(update=fields)
    spec = manifest.spec.model_copy(update={"storage": storage})
    with place.explaining_errors():
        return gather(open_run(manifest.model_copy(update={"spec": spec})))


@contextlib.contextmanager
def parts_told() -> Iterator[None]:
    """Turn a missing package into a `Problem`."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Problem(f"{error}; install it with: pip install 'kinase-nas[report,s3]'") from None


def _rendered(experiment: Experiment, place: StoreAccess) -> bytes:
    """Render the report from the journal, if no controller runs."""
    with parts_told():
        from kinase.report import render

        return render(_gathered(experiment, place)).encode()


def write(
    target: Target, name: str, access: Access, out: Path | None, browse: bool, say: Say
) -> None:
    """Write the report to a file, and open it in the browser."""
    page = current(target, name, access)
    if out is not None and str(out) == "-":
        sys.stdout.buffer.write(page.html)
        return
    path = out or Path(f"{plain_name(name)}-report.html")
    try:
        path.write_bytes(page.html)
    except OSError as error:
        raise Problem(unwritable(path, error)) from None
    say(str(path))
    if browse:
        webbrowser.open(path.resolve().as_uri())


def serve(target: Target, name: str, access: Access, port: int, browse: bool, say: Say) -> None:
    """Serve the report on this machine until Ctrl-C. Each request shows the current state of the
    search, and the page reloads automatically until the search is finished."""
    first = current(target, name, access)  # report an unknown name here
    pages = _Pages(target, name, access, first)
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), pages.handler())
    except OSError as error:
        raise Problem(f"port {port} of this machine is taken: {error.strerror}") from None
    url = f"http://localhost:{server.server_address[1]}/"
    say(f"{url} (Ctrl-C ends it)")
    if browse:
        webbrowser.open(url)
    with server:
        server.serve_forever(poll_interval=0.1)


class _Pages:
    """The local server's responses."""

    def __init__(self, target: Target, name: str, access: Access, first: Page) -> None:
        self._target, self._name, self._access = target, name, access
        self._held: Page | None = first if first.final else None
        self._lock = threading.Lock()

    def get(self) -> Page:
        """The current report; one request at a time."""
        with self._lock:
            if self._held is None:
                page = current(self._target, self._name, self._access)
                self._held = page if page.final else None
                return page
            return self._held

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        """A handler class for `http.server`."""
        pages = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host = self.headers.get("Host", "").rpartition(":")[0]
                if host not in ("localhost", "127.0.0.1"):
                    # protect against DNS rebinding: a page of another site must not read the report
                    self.send_error(HTTPStatus.FORBIDDEN)
                    return
                if self.path != "/":
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                try:
                    page = pages.get()
                except (Problem, StoreError) as problem:
                    self._answer(HTTPStatus.BAD_GATEWAY, f"{problem}\n".encode(), "text/plain")
                    return
                self._answer(HTTPStatus.OK, page.html, "text/html", again=not page.final)

            def _answer(
                self, status: HTTPStatus, body: bytes, kind: str, *, again: bool = True
            ) -> None:
                self.send_response(status)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                if again:
                    self.send_header("Refresh", str(REFRESH))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

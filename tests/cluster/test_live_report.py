"""The report in a real browser while the search runs, reached through a port-forward."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import system
from tests.cluster.fixtures import a_bucket, a_namespace
from tests.cluster.helpers import wait_for
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Node
from tests.cluster.lab.processes import Child
from tests.cluster.lab.s3 import S3Server
from tests.cluster.system import Scene
from tests.e2e.test_report_browser import ARGUMENTS, CHROMIUM, OVERFLOW

playwright = pytest.importorskip("playwright.sync_api")

FIGURES = ("incumbent", "trials", "curves", "cost")
ROWS = "document.querySelectorAll('#table tbody tr').length"


@dataclass(frozen=True)
class Live:
    """A search that runs, and where `kinase report toy --watch` serves its report."""

    scene: Scene
    address: str


@pytest.fixture(scope="module")
def live(
    kinase: system.Operator,
    cluster: Cluster,
    node: Node,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Live]:
    """One with several trials to show, and many to come."""
    with a_namespace(cluster) as namespace:
        scene = Scene(cluster, node, kinase, namespace, a_bucket(cluster, namespace, s3_server))
        env = [{"name": "FAKE_EPOCH_SECONDS", "value": "0.4"}]
        scene.create(
            budget={"trials": 500, "parallelism": 2},
            trialTemplate={"image": system.FAKE, "env": env},
        )
        wait_for(lambda: scene.trial(4), 60, message="a fifth trial")
        log = tmp_path_factory.mktemp("live") / "report.log"
        words = ["report", "toy", "-n", namespace, "--watch", "--no-open"]
        environment = {"KUBECONFIG": str(cluster.kubeconfig)}
        child = Child([str(Path(sys.executable).with_name("kinase")), *words], log, environment)
        try:
            yield Live(scene, wait_for(lambda: _address(child), 60, message="served"))
        finally:
            child.stop()


def _address(child: Child) -> str:
    """What it says that it serves at."""
    assert child.alive, child.said()
    found = re.search(r"http://localhost:\d+/", child.said())
    return found[0] if found else ""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path: apt install chromium")
    with playwright.sync_playwright() as driver:
        # a proxy that the environment names must not stand before this machine's own ports
        found = driver.chromium.launch(
            executable_path=CHROMIUM, args=[*ARGUMENTS, "--no-proxy-server"]
        )
        yield found
        found.close()


def test_the_figures_grow_as_trials_end(live: Live, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    troubles: list[str] = []
    page.on("console", lambda m: troubles.append(f"console {m.type}: {m.text}"))
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.goto(live.address)
    page.wait_for_selector("#table tbody tr")
    assert page.locator("h1").inner_text().split() == ["toy", "Running"]
    for name in FIGURES:
        page.wait_for_selector(f"#{name} .main-svg", state="attached")
        marks = page.locator(f"#{name} .main-svg :is(.trace, .point) path")
        assert marks.count() > 0, f"{name} is empty"
    assert page.evaluate(OVERFLOW) <= 0
    first = page.evaluate(ROWS)
    # nothing is clicked: the page comes anew by itself, with the trials that have ended since
    wait_for(lambda: page.evaluate(ROWS) > first, 60, message="new trials", every=0.5)
    page.wait_for_selector("#incumbent .main-svg", state="attached")
    assert troubles == []


def test_the_page_outlives_the_controller(live: Live, browser: Any) -> None:
    """The pod that served it is deleted; the next look is at the pod that took over."""
    scene, page = live.scene, browser.new_page()
    before = scene.controller()
    scene.cluster.api.delete(scene.path("pods", before))
    wait_for(lambda: scene.controller() != before, 60, message="another controller")

    def back() -> bool:
        page.goto(live.address)
        return bool(page.evaluate(ROWS))

    wait_for(back, 150, message="the report of the new controller", every=0.5)

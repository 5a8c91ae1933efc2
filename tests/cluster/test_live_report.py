"""The report in a real browser while the search runs, reached through a port-forward."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import system
from tests.cluster.helpers import wait_for
from tests.cluster.lab.processes import Child
from tests.cluster.system import Scene
from tests.e2e.test_report_browser import ARGUMENTS, CHROMIUM, OVERFLOW

playwright = pytest.importorskip("playwright.sync_api")

FIGURES = ("incumbent", "curves", "cost")
ROWS = "document.querySelectorAll('#table tbody tr').length"


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path: apt install chromium")
    with playwright.sync_playwright() as driver:
        # what this machine needs to reach the outside must not stand before its own ports
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=[*ARGUMENTS, "--no-proxy-server"]
        )
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


def served(scene: Scene, name: str, log: Path) -> tuple[Child, str]:
    """`kinase report NAME --watch`, and the address that it prints."""
    words = ["report", name, "-n", scene.namespace, "--watch", "--no-open"]
    environment = {"KUBECONFIG": str(scene.cluster.kubeconfig)}
    child = Child([str(Path(sys.executable).with_name("kinase")), *words], log, environment)
    found = wait_for(
        lambda: re.search(r"http://localhost:\d+/", log.read_text()), 60, message=log.name
    )
    return child, found[0]


def test_the_figures_grow_as_trials_end(scene: Scene, page: Any, tmp_path: Path) -> None:
    env = [{"name": "FAKE_EPOCH_SECONDS", "value": "0.4"}]
    scene.create(
        budget={"trials": 200, "parallelism": 2},
        trialTemplate={"image": system.FAKE, "env": env},
    )
    wait_for(lambda: scene.trial(4), 60, message="a fifth trial")
    child, address = served(scene, "toy", tmp_path / "served.log")
    try:
        troubles: list[str] = []
        page.on("console", lambda m: troubles.append(f"console {m.type}: {m.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.goto(address)
        page.wait_for_selector("#table tbody tr")
        assert page.locator("h1").inner_text().split() == ["toy", "Running"]
        for name in FIGURES:
            page.wait_for_selector(f"#{name} .main-svg", state="attached")
            marks = page.locator(f"#{name} .main-svg :is(.trace, .point) path")
            assert marks.count() > 0, f"{name} is empty"
        assert page.evaluate(OVERFLOW) <= 0
        first = page.evaluate(ROWS)
        assert first >= 3
        # the page comes anew by itself, and shows the trials that have ended since
        wait_for(lambda: page.evaluate(ROWS) > first, 60, message="new trials", every=0.5)
        page.wait_for_selector("#incumbent .main-svg", state="attached")
        assert troubles == []
    finally:
        child.stop()


def test_it_outlives_a_controller(scene: Scene, page: Any, tmp_path: Path) -> None:
    """The pod that served the page is killed; the next look is at the pod that took over."""
    env = [{"name": "FAKE_EPOCH_SECONDS", "value": "0.4"}]
    scene.create(
        budget={"trials": 200, "parallelism": 2},
        trialTemplate={"image": system.FAKE, "env": env},
    )
    wait_for(lambda: scene.trial(3), 60, message="a fourth trial")
    child, address = served(scene, "toy", tmp_path / "served.log")
    try:
        page.goto(address)
        page.wait_for_selector("#table tbody tr")
        pod = scene.controller()
        scene.cluster.api.delete(scene.path("pods", pod))
        wait_for(lambda: scene.controller() != pod, 60, message="another controller")

        def back() -> bool:
            page.goto(address)
            return bool(page.evaluate(ROWS))

        wait_for(back, 60, message="the report of the new controller", every=0.5)
    finally:
        child.stop()

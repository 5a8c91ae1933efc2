"""The report in a real browser: it draws, sorts, asks the network for nothing, fits its window."""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinase.api.trial import Outcome
from kinase.report import ReportData, named, render, render_comparison
from tests.docs.blocks import blocks
from tests.unit.report import samples, searches
from tests.unit.report.test_page import DEGENERATE, EVIL
from tests.unit.report.test_stretches import climbing, looked, rule

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FIGURES = ("incumbent", "trials", "curves", "lineage", "timeline", "cost")
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if CHROMIUM is None:
        reason = "no Chromium on the path: apt install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


def _until(page, expression: str) -> None:
    """Wait until an expression holds. Playwright's own wait needs `eval` in the page, which the
    page's policy forbids."""
    deadline = time.monotonic() + 10
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(20)


class Visit:
    """A page that was opened, and all that went wrong on it."""

    def __init__(self, browser, path: Path, width: int, scheme: str) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.troubles.append(f"console {m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.troubles.append(f"error: {e}"))
        self.page.on("requestfailed", lambda r: self.troubles.append(f"failed: {r.url[:200]}"))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(path.as_uri())
        _until(self.page, "document.querySelectorAll('table tbody').length")
        for name in self.page.evaluate("Object.keys(report.figures)"):
            self.page.wait_for_selector(f"#{name} .main-svg", state="attached")

    def check(self) -> None:
        assert self.troubles == []
        outside = [u for u in self.requests[1:] if not u.startswith(("data:", "blob:"))]
        assert outside == []
        assert self.page.evaluate(OVERFLOW) <= 0


def _visit(browser, tmp_path: Path, data: ReportData, width: int = 1280, scheme: str = "light"):
    path = tmp_path / "report.html"
    path.write_text(render(data), encoding="utf-8")
    return Visit(browser, path, width, scheme)


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (360, "dark")]
)
def test_every_figure_is_drawn(browser, tmp_path: Path, width: int, scheme: str) -> None:
    visit = _visit(browser, tmp_path, samples.cells(), width, scheme)
    page = visit.page
    for name in FIGURES:
        marks = page.locator(f"#{name} .main-svg :is(.trace, .point) path")
        assert marks.count() > 0, f"{name} is empty"
        box = page.locator(f"#{name} .main-svg").first.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 200
    assert page.locator(".sketch svg rect").count() > 12
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 20, 24)"
    assert dark == (scheme == "dark")
    visit.check()


def test_rungs_and_the_rules_calibration_are_drawn_on_a_narrow_page(
    browser, tmp_path: Path
) -> None:
    stopped = [looked(n, 0.02, None, outcome=Outcome.STOPPED, ruled=True) for n in range(6)]
    spared = [looked(10 + n, 0.02, n == 0, spared=True) for n in range(3)]
    others = [looked(20 + n, 0.6, n % 2 == 0) for n in range(4)]
    paused = climbing(30, 0.5, 0.8, resting=True, outcome=None, order=None, pauses=(1, 3))
    data = rule(*stopped, *spared, *others, paused)
    visit = _visit(browser, tmp_path, data, 360, "dark")
    for name in ("rungs", "calibration"):
        marks = visit.page.locator(f"#{name} .main-svg :is(.trace, .point) path")
        assert marks.count() > 0, f"{name} is empty"
    assert "Paused trials: 1" in visit.page.locator("#stretches").inner_text()
    with visit.page.expect_download() as waiting:
        visit.page.click("#download")
    waiting.value.save_as(tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    last = rows[-1]
    assert (last["outcome"], last["rung"], last["val_accuracy at rung 1"]) == ("Paused", "1", "0.8")
    assert rows[6]["probability to reach the bar"] == "0.02"
    visit.check()


def test_all_trials_can_be_downloaded(browser, tmp_path: Path) -> None:
    data = samples.digits()
    formula = replace(data.trials[0], architecture={"op": '=1+"2",\n3'}, operation="=cmd()")
    visit = _visit(browser, tmp_path, replace(data, trials=(formula, *data.trials[1:])))
    with visit.page.expect_download() as waiting:
        visit.page.click("#download")
    assert waiting.value.suggested_filename == "digits-evolution-trials.csv"
    waiting.value.save_as(tmp_path / "trials.csv")
    [page] = blocks("docs/report.md", "python")
    exec(compile(page.text, page.place, "exec"), found := dict[str, Any]())
    rows = found["trials"](tmp_path / "trials.csv")
    assert [int(row["trial"]) for row in rows] == [t.number for t in data.trials]
    for row, trial in zip(rows[1:], data.trials[1:], strict=True):
        assert row["architecture"] == trial.architecture
        value = row[samples.METRIC]
        assert (float(value) if value else None) == trial.metrics.get(samples.METRIC)
    assert rows[0]["architecture"] == formula.architecture
    assert rows[0]["made by"].startswith("'=cmd()")
    visit.check()


BOXES = """name => {
  const box = e => {
    const b = e.getBoundingClientRect();
    return [b.left, b.top, b.right, b.bottom];
  };
  const all = selector => [...document.querySelectorAll(`#${name} ${selector}`)].map(box);
  return {bar: all(".modebar"), legend: all(".legend"), labels: all(".xtick text")};
}"""


def _overlap(a: list[float], b: list[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("width", [500, 1400])
def test_no_toolbar_lies_on_a_legend_and_no_label_on_another(
    browser, tmp_path: Path, width: int
) -> None:
    visit = _visit(browser, tmp_path, samples.digits(), width)
    for name in visit.page.evaluate("Object.keys(report.figures)"):
        visit.page.locator(f"#{name}").hover()
        boxes = visit.page.evaluate(BOXES, name)
        assert boxes["bar"], name
        assert not any(_overlap(b, legend) for b in boxes["bar"] for legend in boxes["legend"])
        labels = boxes["labels"]
        assert not any(_overlap(*pair) for pair in itertools.combinations(labels, 2)), name
    visit.check()


def test_figures_follow_the_scheme(browser, tmp_path: Path) -> None:
    visit = _visit(browser, tmp_path, samples.digits())
    colour = "document.querySelector('#incumbent .js-line:last-of-type').style.stroke"
    line = "[...document.querySelectorAll('#incumbent .js-line')].map(e => e.style.stroke).join()"
    light = visit.page.evaluate(line)
    visit.page.emulate_media(color_scheme="dark")
    _until(visit.page, f"{line} !== {light!r}")
    assert "rgb(0, 114, 178)" in light
    assert "rgb(86, 180, 233)" in visit.page.evaluate(line), colour
    visit.check()


def test_another_axis_can_be_chosen(browser, tmp_path: Path) -> None:
    visit = _visit(browser, tmp_path, samples.digits())
    page = visit.page
    title = "#incumbent .xtitle"
    assert page.text_content(title) == "training epochs"
    page.get_by_text("device seconds", exact=True).first.click()
    _until(page, f"document.querySelector('{title}').textContent === 'device seconds'")
    axis = "document.getElementById('trials').layout.yaxis.range[0]"
    narrow = page.evaluate(axis)
    page.locator("#all .axis").get_by_text("all", exact=True).click()
    _until(page, f"{axis} < {narrow}")
    visit.check()


def test_table_sorts_and_searches(browser, tmp_path: Path) -> None:
    data = samples.digits()
    visit = _visit(browser, tmp_path, data)
    page = visit.page
    rows = page.locator("#table tbody tr")
    assert rows.count() == len(data.trials)

    def column(index: int) -> list[str]:
        return rows.evaluate_all(f"rows => rows.map(row => row.cells[{index}].textContent)")

    page.get_by_role("button", name="val_accuracy").click()
    values = [float(v) for v in column(3) if v != "–"]
    assert values == sorted(values, reverse=True)
    assert column(3)[-1] == "–"  # no value is last, whichever the order
    page.get_by_role("button", name="val_accuracy").click()
    assert [float(v) for v in column(3) if v != "–"] == sorted(values)
    assert column(3)[-1] == "–"
    assert page.locator("#table th[aria-sort=ascending]").inner_text().startswith("val_accuracy")

    page.fill("#filter", "control succeeded")
    assert set(column(1)) == {"Control"}
    assert page.inner_text("#found") == "11 of 64 trials"
    page.fill("#filter", "no such trial")
    assert rows.count() == 0
    visit.check()


@pytest.mark.parametrize("data", DEGENERATE.values(), ids=DEGENERATE)
def test_a_poor_experiment_opens_cleanly(browser, tmp_path: Path, data: ReportData) -> None:
    visit = _visit(browser, tmp_path, data, 390)
    visit.check()


def test_hostile_text_runs_nothing(browser, tmp_path: Path) -> None:
    trial = samples.trial(0)
    data = samples.empty(name=EVIL, metric=EVIL, reason=EVIL, trials=(trial,), spec={EVIL: EVIL})
    visit = _visit(browser, tmp_path, data)
    assert visit.page.locator("img").count() == 0
    assert EVIL in visit.page.inner_text("h1")
    visit.check()


def test_policy_stops_what_gets_in(browser, tmp_path: Path) -> None:
    """Should a text ever slip through unescaped, the browser still neither runs nor loads it."""
    path = tmp_path / "report.html"
    slipped = '<img src="http://127.0.0.1:9/x.png" onerror="document.title = \'run\'">'
    path.write_text(render(samples.empty()).replace("<header", slipped + "<header"))
    visit = Visit(browser, path, 1280, "light")
    visit.page.wait_for_timeout(100)
    assert visit.page.title() != "run"
    assert any("Content Security Policy" in trouble for trouble in visit.troubles)


@pytest.mark.soak
def test_ten_thousand_trials_open(browser, tmp_path: Path) -> None:
    data = samples.digits(10_000)
    visit = _visit(browser, tmp_path, data)
    page = visit.page
    assert page.locator("#table tbody tr").count() == 200
    page.click("#more")
    assert page.locator("#table tbody tr").count() == 1200
    page.fill("#filter", "failed")
    assert "of 10,000 trials" in page.inner_text("#found")  # the latest
    visit.check()


def test_prints_in_light_with_all_opened(browser, tmp_path: Path) -> None:
    visit = _visit(browser, tmp_path, samples.digits(), scheme="dark")
    seen = []
    visit.page.expose_function("saw", lambda *state: seen.append(state))
    visit.page.evaluate(
        """addEventListener("beforeprint", () => saw(
            document.querySelectorAll("details:not([open])").length,
            document.getElementById("incumbent").layout.font.color))"""
    )
    pdf = visit.page.pdf(format="A4", margin=dict.fromkeys(("left", "right"), "15mm"))
    assert pdf.startswith(b"%PDF")
    assert seen == [(0, "#5b6470")]
    assert visit.page.locator("details[open]").count() == 0
    visit.check()


# The comparison


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_searches_are_compared(browser, tmp_path: Path, width: int, scheme: str) -> None:
    """Five methods on five seeds: the names stand above the figure, and fit."""
    path = tmp_path / "comparison.html"
    path.write_text(render_comparison(named(searches.five_by_five())), encoding="utf-8")
    visit = Visit(browser, path, width, scheme)
    page = visit.page
    assert page.locator("#anytime .scatterlayer .js-line").count() >= 5
    plot = page.locator("#anytime .nsewdrag").bounding_box()
    legend = page.locator("#anytime .legend .bg").bounding_box()
    assert legend["y"] + legend["height"] <= plot["y"]
    assert plot["height"] > 200
    names = page.locator("#anytime .legendtext")
    assert names.count() == 5
    for box in (name.bounding_box() for name in names.all()):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    visit.check()


def test_tables_and_figure_have_one_unit(browser, tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    runs = [searches.search([0.5, 0.6], method) for method in (searches.RANDOM, searches.NASH)]
    path.write_text(render_comparison(named(runs)), encoding="utf-8")
    visit = Visit(browser, path, 1280, "light")
    page = visit.page
    shown = "[...new Set([...document.querySelectorAll('[data-of]')].filter(e => !e.hidden)"
    shown += ".map(e => e.dataset.variant))].join()"
    assert page.evaluate(shown) == "epochs"
    page.locator("#costs .axis").get_by_text("sample passes", exact=True).click()
    _until(page, "document.querySelector('#anytime .xtitle').textContent === 'sample passes'")
    assert page.evaluate(shown) == "sample passes"
    checked = page.locator(".axis input:checked").evaluate_all("all => all.map(e => e.value)")
    assert checked == ["sample passes"] * 3
    visit.check()

from __future__ import annotations

import base64
import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from kinase.api.trial import Kind
from kinase.report import ReportData, render, theme
from kinase.report.data import ProtocolItem
from kinase.report.html import plotly_js
from tests.unit.report import samples
from tests.unit.report.samples import METRIC

EVIL = "</script><img src=x onerror=alert(1)>"
SECTIONS = (
    *("head", "worth", "all", "learning", "architecture"),
    *("ancestry", "costs", "practice", "list", "manifest"),
)


class Page(HTMLParser):
    """What a browser would see of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.add(tag)
        found = {name: value or "" for name, value in attrs}
        self.attributes += [(tag, name, value) for name, value in found.items()]
        self.ids.add(found.get("id", ""))
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[1])


def test_every_section_is_there() -> None:
    page = Page(render(samples.digits()))
    assert page.ids >= {*SECTIONS, "failures"}
    assert page.ids >= {"incumbent", "trials", "curves", "lineage", "cost", "table"}
    drawn = {"incumbent", "trials", "pairs", "volume", "curves", "lineage"}
    assert set(page.data["figures"]) == drawn | {"timeline", "cost"}
    assert len(page.data["rows"]) == 64


def test_head_tells_the_winner_the_control_and_the_budget() -> None:
    text = Page(render(samples.digits())).text
    for told in (
        "0.9992",
        "0.9917",
        "48,835",
        "2.25M",
        "the strategy against random search at the same cost",
        "four layers by hand",
        "0:03:12",
        "from kinase_trainer import load",
    ):
        assert told in text, told


def _running() -> ReportData:
    under_way = replace(samples.trial(1), outcome=None, order=None, metrics={}, curve=())
    return samples.empty(trials=(samples.trial(0), under_way))


def _odd() -> ReportData:
    numbers = {METRIC: math.nan, "params": math.inf, "macs": -math.inf}
    return samples.empty(trials=(replace(samples.trial(0), metrics=numbers),))


DEGENERATE = {
    "nothing yet": samples.empty(),
    "no protocol, no budget": samples.empty(protocol=(), budget=(), summary=(), spec={}),
    "one trial": samples.empty(trials=(samples.trial(0),)),
    "one control trial": samples.empty(trials=(samples.trial(0, Kind.CONTROL),)),
    "one under way": _running(),
    "all failed": samples.all_failed(),
    "no control": samples.digits(share=0.0),
    "no number is finite": _odd(),
    "a pooling network without parameters": samples.empty(
        trials=(samples.trial(0, counts={"params": 0.0, "macs": 0.0}, architecture={"layers": []}),)
    ),
    "minimised": samples.digits(goal="minimize"),
    "suspended": samples.digits(phase="Suspended", winner=None, reason=""),
}


@pytest.mark.parametrize("data", DEGENERATE.values(), ids=DEGENERATE)
def test_a_poor_experiment_has_a_whole_page(data: ReportData) -> None:
    page = Page(render(data))
    assert page.ids >= set(SECTIONS)
    for figure in page.data["figures"]:
        assert figure in page.ids, f"the page has no place for {figure}"
    for word in ("nan", "None", "inf", "undefined"):
        assert f" {word} " not in page.text


def test_no_winner_and_no_control_are_said() -> None:
    text = Page(render(samples.empty())).text
    assert "There is no winner yet" in text
    assert "No random control has ended" in text
    failed = Page(render(samples.all_failed())).text
    assert "no trial produced a network" in failed
    assert "loss is not a number after epoch 3" in failed


def test_a_winner_without_parents_is_said() -> None:
    data = samples.digits()
    assert data.winner is not None
    first = replace(data.winner, found_by=0)
    page = Page(render(replace(data, winner=first)))
    assert "has no parents" in page.text
    assert "lineage" not in page.data["figures"]


def test_untrusted_text_stays_text() -> None:
    data = samples.digits()
    assert data.winner is not None
    bad = replace(
        samples.trial(70, Kind.BASELINE, 0.9),
        label=EVIL,
        operation=EVIL,
        message=EVIL,
        fidelity=EVIL,
        architecture={EVIL: [EVIL, {"op": EVIL}]},
    )
    hostile = replace(
        data,
        name=EVIL,
        namespace=EVIL,
        reason=EVIL,
        phase=EVIL,
        summary=((EVIL, EVIL),),
        trials=(*data.trials, bad),
        cost={EVIL: data.cost["search"]},
        budget=((EVIL, EVIL, EVIL),),
        protocol=(ProtocolItem(EVIL, EVIL, None),),
        spec={EVIL: EVIL},
        store_uri=EVIL,
        metric=METRIC,
        winner=replace(
            data.winner,
            architecture={EVIL: EVIL},
            sketch=replace(data.winner.sketch, nodes=(("in", EVIL), *data.winner.sketch.nodes[1:])),
            test={EVIL: 0.5},
            model_uri=EVIL,
            load_lines=(EVIL,),
        ),
    )
    text = render(hostile)
    page = Page(text)
    assert "img" not in page.tags
    assert "<img" not in text.replace(plotly_js(), "")
    assert len(page.scripts) == 3
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(EVIL) > 10
    assert EVIL in page.data["rows"][-1]


def test_a_hostile_metric_stays_text() -> None:
    trial = replace(samples.trial(0), metrics={EVIL: 0.5, "params": 10.0})
    page = Page(render(samples.empty(metric=EVIL, trials=(trial,))))
    assert "img" not in page.tags
    assert page.data["metric"] == EVIL


def test_policy_allows_the_pages_own_scripts_and_nothing_else() -> None:
    page = Page(render(samples.digits()))
    (policy,) = [v for t, n, v in page.attributes if (t, n) == ("meta", "content") and "src" in v]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    run = [page.scripts[0], page.scripts[2]]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in run]
    assert rules["script-src"].split() == [f"'sha256-{h}'" for h in hashes]


def test_page_refers_to_nothing_outside() -> None:
    page = Page(render(samples.cells()))
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "poster", "data"):
            assert value.startswith(("#", "data:,")), (tag, name, value)
    assert all(f"#{i}" in {v for _, n, v in page.attributes if n == "href"} for i in SECTIONS[1:])


def test_same_data_same_page() -> None:
    assert render(samples.digits()) == render(samples.digits())


def test_a_page_is_below_one_and_a_half_megabytes() -> None:
    assert len(render(samples.digits()).encode()) < 1.5e6


def test_ten_thousand_trials_fit() -> None:
    data = samples.digits()
    some = [t for t in data.trials if t.kind in (Kind.SEARCH, Kind.CONTROL)]
    many = tuple(replace(some[n % len(some)], number=n, order=n) for n in range(10_000))
    page = render(replace(data, trials=many, winner=None, also=()))
    assert len(page.encode()) - len(plotly_js()) < 15e6
    assert len(Page(page).data["rows"]) == 10_000


def test_comparing_and_gathering_need_no_plotting_library() -> None:
    code = "import sys, kinase.report.gather; print({'plotly', 'jinja2'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def _luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("paper", ["paper", "card"])
def test_colours_stand_out(palette: dict[str, str], paper: str) -> None:
    back = _luminance(palette[paper])
    for name, least in {
        "ink": 7,
        "soft": 4.5,
        "blue": 4.5,
        "green": 4.5,
        "orange": 4.0,
        "purple": 3,
    }.items():
        front = _luminance(palette[name])
        contrast = (max(front, back) + 0.05) / (min(front, back) + 0.05)
        assert contrast >= least, (name, contrast)


@pytest.mark.parametrize(
    ("architecture", "text"),
    [
        ({"layers": [{"op": "conv", "width": 8, "skip": None}]}, "layers: conv w8"),
        ({"layers": [{"op": "x", "stride": 2, "skip": -1}]}, "layers: x stride2 skip-1"),
        ({"normal": [[["sep", 0], ["skip", 1]]]}, "normal: sep 0 | skip 1"),
        ({"a": True, "b": False, "rate": 0.5}, "a r0.5"),
        ([], ""),
        ("x", "x"),
    ],
)
def test_brief(architecture: object, text: str) -> None:
    assert theme.brief(architecture) == text


@pytest.mark.parametrize(
    ("number", "text"), [(940, "940"), (12_345, "12.3k"), (1.5e6, "1.5M"), (2e9, "2G"), (None, "–")]
)
def test_quantity(number: float | None, text: str) -> None:
    assert theme.quantity(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (187, "3 min 07 s"), (3720, "1 h 02 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert theme.duration(seconds) == text


def test_the_main_metric_of_the_winner_is_a_card_of_its_own() -> None:
    data = samples.digits()
    assert data.winner is not None
    winner = replace(data.winner, metrics={**data.winner.metrics, "val_top1": 0.87654})
    with_card = render(replace(data, winner=winner, main_metric="val_top1"))
    assert "<b>0.8765</b><span>winner, val_top1</span>" in with_card
    assert "winner, val_top1" not in render(replace(data, winner=winner))

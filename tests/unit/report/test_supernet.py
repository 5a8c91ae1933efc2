"""The report's section on a supernet."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinase.api import TrialJob
from kinase.api.supernet import Derived
from kinase.experiment.loop import Loop
from kinase.report import ReportData, ranking, render, supernet_section
from kinase.report.gather import gather
from tests.unit.experiment.test_one_shot import SPACE, checking, one_shot, run, score
from tests.unit.report.test_page import Page

SKIPS: Any = {
    "normal": [[["skip_connect", 0]], [["skip_connect", n] for n in range(2)],
               [["nor_conv_3x3", 0], ["skip_connect", 1], ["skip_connect", 2]]]
}  # fmt: skip
CURVE = [
    {
        "epoch": n,
        "metrics": {"val_accuracy": 0.1 * n, "val_loss": 1 / n, "supernet_skips": 0.5},
        "deviceSeconds": 1.0,
    }
    for n in (1, 2, 3)
]
OPTIONS = {
    "normal_0_0": ["none", "skip_connect", "nor_conv_3x3"],
    "normal_1_0": ["none", "skip_connect", "nor_conv_3x3"],
}
EPOCHS = [{"normal_0_0": [0.25, 0.75, 0.0], "normal_1_0": [0.75, 0.25, 0.0]}] * 2


def evaluate(job: TrialJob) -> dict[str, float]:
    return {**score(job), "val_loss": 0.5}


@pytest.fixture(scope="module")
def loop() -> Loop:
    manifest = one_shot(**checking(10, 60), budget={"epochs": 80}, control={"share": 0.5})
    return run(manifest, evaluate=evaluate, derived=(Derived(architecture=SKIPS, score=0.7),))


def left(loop: Loop, name: str, document: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    loop.store.put(f"trials/00000/{name}", text.encode())


def section(data: ReportData) -> supernet_section.SupernetSection:
    found = supernet_section.section_of(data)
    assert found is not None
    return found


def taub(a: list[float], b: list[float]) -> float:
    """Kendall's tau-b by counting."""
    pairs = list(itertools.combinations(range(len(a)), 2))
    signs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in pairs]
    x, y = sum(s != 0 for s, _ in signs), sum(s != 0 for _, s in signs)
    return float(sum(s * t for s, t in signs) / np.sqrt(x * y))


def test_the_rank_correlation_is_kendalls() -> None:
    rng = np.random.default_rng(0)
    a = [float(v) for v in rng.integers(0, 6, 20)]
    b = [v + float(w) for v, w in zip(a, rng.integers(0, 4, 20), strict=True)]
    found = ranking.ranking(a, b)
    assert found.tau == pytest.approx(taub(a, b))
    assert found.interval is not None
    assert found.interval[0] < taub(a, b) < found.interval[1]
    back = ranking.ranking(a, [-v for v in a])
    assert (back.tau, back.interval) == (pytest.approx(-1), None), "no spread is no interval"
    assert ranking.ranking(a[:7], b[:7]) == ranking.Ranking(7, None, None)
    assert ranking.ranking([1.0] * 9, b[:9]).tau is None


def test_its_files_are_shown(loop: Loop) -> None:
    left(loop, "choices.json", {"options": OPTIONS, "epochs": EPOCHS})
    result = {"trial": 0, "attempt": 1, "outcome": "Succeeded", "curve": CURVE}
    left(loop, "result.json", result)
    data = gather(loop)
    found = section(data)
    assert (found.done, found.candidates) == (3, 31)
    [part] = found.parts
    assert (part.name, part.options) == ("normal", ("none", "skip_connect", "nor_conv_3x3"))
    assert data.supernet is not None
    assert data.supernet.choices is not None
    assert supernet_section.means(data.supernet.choices, part)[-1] == [0.5, 0.5, 0.0]
    html = render(data)
    for name in ("Curve", "Watch", "Choices", "Last", "Scores", "Ranks"):
        assert f'id="supernet{name}"' in html
    assert '<a href="#supernet">' in html
    figures = Page(html).data["figures"]
    drawn = {t["type"] for n in figures for f in figures[n].values() for t in f["data"]}
    assert drawn <= {"scatter", "bar"}, "the page has no code for others, and draws them wrong"


def test_the_rank_check_alone_is_the_sample(loop: Loop) -> None:
    found = section(gather(loop))
    check = found.rankings["rank check"]
    assert check.pairs == 10
    assert check.tau == pytest.approx(1), "here the score is the value"
    assert found.rankings["finalist"].tau is None
    names = [(each.name, each.trials, each.cost.epochs) for each in found.stages]
    assert names == [
        ("supernet", 1, 6),
        ("candidates, scored", 31, 0),
        ("finalists", 2, 8),
        ("rank check", 10, 40),
    ]
    assert "on 10 trained candidates" in (supernet_section.line(gather(loop)) or "")


def test_a_collapse_is_said(loop: Loop) -> None:
    SPACE.validate(SKIPS)
    found = section(gather(loop))
    assert (found.derived[0].skips, found.derived[0].operations) == (5, 6)
    assert found.collapse.startswith("The choices have collapsed: 5 of 6 operations are skips; ")
    assert "the control's best candidate scores higher" in found.collapse
    assert "collapsed" in render(gather(loop))


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("{", "is damaged"),
        ({"options": OPTIONS, "epochs": [{"normal_0_0": [1.0]}]}, "other groups than options"),
        (
            {"options": OPTIONS, "epochs": [{g: [1.0] for g in OPTIONS}]},
            "epoch 1 has 1 probabilities for normal_0_0",
        ),
        ({"options": OPTIONS, "epochs": [{g: [2.0, 0.0, 0.0] for g in OPTIONS}]}, "is damaged"),
        (" " * (9 << 20), "is too large"),
    ],
)
def test_damaged_files_leave_their_figures_out(loop: Loop, document: Any, why: str) -> None:
    left(loop, "choices.json", document)
    left(loop, "result.json", "{}")
    data = gather(loop)
    assert data.supernet is not None
    assert data.supernet.choices is None
    assert why in data.supernet.choices_said
    assert "result.json is missing or damaged" in data.supernet.curve_said
    html = render(data)
    assert 'id="supernetChoices"' not in html
    assert 'id="supernetCurve"' not in html


def test_missing_files_are_said(loop: Loop) -> None:
    for name in ("choices.json", "result.json"):
        loop.store.delete(f"trials/00000/{name}")
    html = render(gather(loop))
    assert "choices.json is missing" in html
    assert "result.json is missing" in html


def test_without_a_supernet_there_is_no_section(loop: Loop) -> None:
    data = replace(gather(loop), supernet=None)
    assert supernet_section.section_of(data) is None
    assert 'id="supernet"' not in render(data)

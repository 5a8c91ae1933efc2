from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from kinase.api.trial import Cost, Kind
from kinase.report import figures
from kinase.report.anytime import COSTS
from kinase.report.lineage import ANCESTORS, ancestors, lineage
from kinase.report.styles import STYLES
from tests.unit.report import samples
from tests.unit.report.samples import METRIC

DATA = samples.digits()
EXPECTED = "random search, expected"


def _trace(figure, name: str):
    return next(t for t in figure.data if (t.name or "").startswith(name))


@pytest.mark.parametrize("unit", COSTS)
def test_incumbent_improves_and_ends_with_the_whole_cost(unit: str) -> None:
    line = _trace(figures.incumbent(DATA, unit), "strategy")
    assert list(line.y) == sorted(line.y)
    search = [t for t in DATA.trials if t.kind is Kind.SEARCH]
    assert line.x[-1] == pytest.approx(sum(COSTS[unit][1](t) for t in search))
    assert line.y[-1] == max(t.metrics.get(METRIC, 0.0) for t in search)


def test_band_ends_at_the_controls_best_and_its_whole_cost() -> None:
    control = [t for t in DATA.trials if t.kind is Kind.CONTROL]
    line = _trace(figures.incumbent(DATA, "epochs"), EXPECTED)
    assert line.x[-1] == pytest.approx(sum(t.cost.epochs for t in control))
    assert line.y[-1] == pytest.approx(max(t.metrics.get(METRIC, 0.0) for t in control))
    mean = np.mean([t.metrics[METRIC] for t in control if METRIC in t.metrics])
    assert line.y[0] == pytest.approx(mean)


def test_minimizing_turns_the_band_and_the_incumbent() -> None:
    data = replace(DATA, goal="minimize", target=None)
    figure = figures.incumbent(data, "trials")
    line = _trace(figure, "strategy")
    assert list(line.y) == sorted(line.y, reverse=True)
    values = [t.metrics[METRIC] for t in data.trials if t.kind is Kind.CONTROL if t.curve]
    assert _trace(figure, EXPECTED).y[-1] == pytest.approx(min(values))


def test_front_holds_what_nothing_dominates() -> None:
    drawn = [t for t in DATA.trials if t.kind in (Kind.SEARCH, Kind.CONTROL) and t.curve]
    pairs = {t.number: (t.metrics[METRIC], t.metrics["params"]) for t in drawn}
    expected = {
        n
        for n, (value, params) in pairs.items()
        if not any(
            v >= value and p <= params and (v, p) != (value, params) for v, p in pairs.values()
        )
    }
    assert {t.number for t in figures.front_of(DATA)} == expected


@pytest.mark.parametrize("view", figures.VIEWS)
def test_every_trial_with_a_value_is_a_point(view: str) -> None:
    figure = figures.trials(DATA, view)
    for kind, style in STYLES.items():
        want = sum(t.kind is kind and METRIC in t.metrics for t in DATA.trials)
        assert len(_trace(figure, style.name).x) == want
    assert DATA.winner is not None
    assert _trace(figure, "winner").y == (DATA.winner.metrics[METRIC],)


@pytest.mark.parametrize("draw", [figures.trials, figures.curves])
def test_each_finalist_has_a_name_and_a_style_of_its_own(draw) -> None:
    """Six finalists: the winner and five others; the two worst of eight share a style."""
    found = [t for t in DATA.trials if t.kind is Kind.SEARCH and METRIC in t.metrics]
    finals = tuple(
        samples.trial(900 + i, Kind.FINAL, 0.98 - i / 1000, parents=(found[i].number,))
        for i in range(8)
    )
    assert DATA.winner is not None
    data = replace(DATA, trials=(*found, *finals), winner=replace(DATA.winner, trial=902))
    traces = {t.name: t for t in draw(data, "all").data if "finalist" in (t.name or "")}
    order = (902, 900, 901, 903, 904, 905)
    names = [f"finalist {n} of trial {found[n - 900].number}" for n in order]
    names[0] = f"winner, {names[0]}"
    assert set(traces) == {*names, "2 further finalists"}
    assert len({(t.marker.symbol, t.line.dash, t.line.color) for t in traces.values()}) == 7
    if draw is figures.trials:
        assert len({(t.marker.symbol, t.marker.color) for t in traces.values()}) == 7
        assert [len(traces[name].x) for name in names] == [1] * 6


def test_better_half_begins_at_the_median() -> None:
    low, high = figures.trials(DATA, "better half").layout.yaxis.range
    values = [
        t.metrics[METRIC] for t in DATA.trials if t.kind in (Kind.SEARCH, Kind.CONTROL) if t.curve
    ]
    assert low < np.median(values) < min(v for v in values if v > np.median(values)) < high
    assert np.mean([v > low for v in values]) < 0.75
    everything = figures.trials(DATA, "all").layout.yaxis.range
    assert everything[0] < min(values) <= max(values) < everything[1]


def test_learning_curves_are_capped_and_the_best_are_kept() -> None:
    trials = tuple(samples.trial(n, value=0.5 + n / 4000) for n in range(600))
    data = samples.empty(trials=trials)
    chosen = [t.number for t in figures.chosen_curves(data)]
    assert len(chosen) == len(set(chosen)) == figures.BEST_CURVES + figures.OTHER_CURVES
    assert chosen[: figures.BEST_CURVES] == list(range(599, 549, -1))
    assert min(chosen) < 20  # the others reach down the ranks


def test_cost_shares_sum_to_one() -> None:
    figure = figures.cost(DATA)
    for row in range(3):
        assert sum(bar.x[row] for bar in figure.data) == pytest.approx(1.0)
    assert _trace(figure, "lost").text[2] == "4"
    assert figures.cost(replace(DATA, cost={"search": Cost(epochs=3)})).data[0].x == (0.0, 0.0, 1.0)


def test_no_text_of_a_trial_is_markup_to_plotly() -> None:
    bad = replace(samples.trial(1), architecture={"op": "<b>&amp;"})
    assert "&lt;b&gt;&amp;amp;" in figures.describe(samples.empty(), bad)
    labelled = replace(samples.trial(2, Kind.BASELINE), label="<a href='x'>")
    figure = figures.curves(samples.empty(trials=(labelled,)), "all")
    assert figure.data[-1].name == "&lt;a href='x'&gt;"
    titled = figures.incumbent(samples.empty(metric="<i>m", trials=(samples.trial(0),)), "trials")
    assert titled.layout.yaxis.title.text == "&lt;i&gt;m"


def test_figures_are_json_without_nan() -> None:
    broken = replace(samples.trial(3), metrics={METRIC: float("nan"), "params": float("inf")})
    data = replace(DATA, trials=(*DATA.trials, broken))
    for figure in (figures.trials(data, "all"), figures.curves(data, "all"), figures.cost(data)):
        json.dumps(figures.as_json(figure), allow_nan=False)


def test_ancestry_is_closed_under_parents() -> None:
    line = ancestors(DATA)
    numbers = {t.number for t in line}
    assert DATA.winner is not None
    assert DATA.winner.found_by == line[-1].number
    assert len(line) > 1
    assert all(parent in numbers for t in line for parent in t.parents)
    edges = lineage(DATA, line).data[0].x
    assert len(edges) == 3 * sum(len(t.parents) for t in line)


def test_a_long_ancestry_keeps_the_nearest() -> None:
    trials = tuple(samples.trial(n, parents=(n - 1,) if n else ()) for n in range(300))
    assert DATA.winner is not None
    winner = replace(DATA.winner, found_by=299)
    line = ancestors(samples.empty(trials=trials, winner=winner))
    assert [t.number for t in line] == list(range(300 - ANCESTORS, 300))


def test_parents_that_form_a_ring_end() -> None:
    one, two = samples.trial(1, parents=(2,)), samples.trial(2, parents=(1,))
    assert DATA.winner is not None
    winner = replace(DATA.winner, found_by=2)
    assert len(ancestors(samples.empty(trials=(one, two), winner=winner))) == 2

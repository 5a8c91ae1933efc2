"""The report's section on stretches and rungs."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinase.api import Kind
from kinase.api.trial import Cost, Outcome
from kinase.estimation.calibration import Calibration
from kinase.experiment.rungs import RungCount
from kinase.report import ReportData, figures, render, stretch_figures, stretches
from kinase.report.anytime import curve
from kinase.report.control import best_of, ended, valued
from kinase.report.data import ReportTrial
from kinase.report.gather import gather
from kinase.report.rungs import ReportLook, ReportRung, Step, Stopping
from tests.unit.experiment.helpers import make_loop
from tests.unit.experiment.test_rungs import CurveEngine, falling, stopping
from tests.unit.experiment.test_stretches import learnt, manifest
from tests.unit.report.samples import METRIC, empty, trial


def at(rung: int, value: float, epochs: int, when: float) -> ReportRung:
    return ReportRung(rung, epochs, {METRIC: value}, Cost(epochs=epochs, samples=epochs), when)


def climbing(number: int, *values: float, when: float = 0.0, **changes: Any) -> ReportTrial:
    """A trial with a value at each of the rungs 1, 3, 9."""
    rungs = tuple(at(k, v, 3**k, when + k) for k, v in enumerate(values))
    made = trial(number, value=values[-1], epochs=3 ** (len(values) - 1))
    return replace(made, rungs=rungs, cost=rungs[-1].cost, **changes)


LADDER = tuple(
    Step(k, f"{3**k} of 9 epochs", RungCount(k, 3**k, entered=9 // 3**k)) for k in range(3)
)


def laddered(*trials: ReportTrial, **changes: Any) -> ReportData:
    whole = Cost(epochs=9, samples=9)
    return empty(trials=trials, ladder=LADDER, whole=whole, also=(), **changes)


# -- pure functions ----------------------------------------------------------------------------


def test_what_was_saved_is_counted_against_all_in_full() -> None:
    data = laddered(climbing(0, 0.1), climbing(1, 0.1, 0.2), climbing(2, 0.1, 0.2, 0.3))
    found = stretches.saving(data)
    assert (found.trials, found.spent, found.whole, found.unit) == (3, 13, 27, "epochs")
    assert found.share == pytest.approx(1 - 13 / 27)
    assert stretches.saving(laddered()).share == 0.0


def test_rungs_that_are_trainings_of_their_own_are_counted_in_sample_passes() -> None:
    ladder = tuple(replace(s, count=RungCount(s.rung, until=9)) for s in LADDER)
    found = stretches.saving(replace(laddered(climbing(0, 0.1, 0.2)), ladder=ladder))
    assert (found.spent, found.whole, found.unit) == (3, 9, "sample passes")


def test_the_rank_correlation_is_spearmans() -> None:
    assert stretches.spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert stretches.spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # 1 - 6 * (1 + 1 + 0 + 4 + 4) / (5 * 24)
    assert stretches.spearman([1, 2, 3, 4, 5], [2, 1, 3, 6, 4]) == pytest.approx(0.8)
    assert stretches.spearman([1, 1, 1], [1, 2, 3]) is None


def test_its_interval_covers() -> None:
    rng = np.random.default_rng(1)
    r, draws, covered = 0.6, 300, 0
    true = 6 / math.pi * math.asin(r / 2)  # Spearman's correlation of a normal pair (Pearson 1907)
    for _ in range(draws):
        x = rng.standard_normal(40)
        y = r * x + math.sqrt(1 - r * r) * rng.standard_normal(40)
        found = stretches.spearman(list(x), list(y))
        assert found is not None
        low, high = stretches.interval_of(found, 40)
        covered += low <= true <= high
    assert 0.9 < covered / draws < 0.99


def test_a_rung_is_compared_with_the_next_on_the_trials_of_both() -> None:
    several = [climbing(n, 0.1 * n, 0.1 * n + 0.5) for n in range(8)]
    data = laddered(*several, climbing(9, 0.9), climbing(10, 0.3, math.nan))
    [found] = stretches.agreements(data)
    assert (found.rung, found.following, found.trials) == (0, 1, 8)
    assert found.correlation == pytest.approx(1)
    [few] = stretches.agreements(laddered(*several[:7]))
    assert (few.trials, few.correlation, few.interval) == (7, None, None)


def test_a_value_of_a_higher_rung_replaces_all_below() -> None:
    data = laddered(
        climbing(0, 0.9, when=1.0),
        climbing(1, 0.5, 0.6, when=2.0),
        climbing(2, 0.95, when=5.0),
        climbing(3, 0.1, 0.7, when=6.0),
    )
    found = curve(data, "epochs")
    assert found.ys == (0.9, 0.6, 0.7)
    assert found.xs == (1, 4, 8)  # 1, then 1 + 2, then 1, then 1 + 2
    assert found.spent == 8
    assert curve(data, "trials").spent == 4
    best = best_of(data, data.trials)
    assert best is not None
    assert (best[0].number, best[1]) == (3, 0.7)
    assert {t.number for t in figures.front_of(data)} <= {1, 3}


def test_what_pauses_has_a_result_and_what_has_not_reached_a_rung_has_none() -> None:
    open_ones = {"outcome": None, "order": None}
    paused = climbing(0, 0.5, resting=True, **open_ones)
    under_way = replace(trial(1), **open_ones)
    data = laddered(paused, under_way)
    assert ended(data, Kind.SEARCH) == [paused]
    assert valued(data, Kind.SEARCH) == [(paused, 0.5)]


# -- from a run --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asha() -> ReportData:
    loop = make_loop(manifest(budget={"trials": 24}), evaluate=falling)
    loop.run()
    return gather(loop)


def test_a_run_on_a_ladder_is_gathered(asha: ReportData) -> None:
    assert [step.text for step in asha.ladder] == ["1 of 9 epochs", "3 of 9 epochs", "9 epochs"]
    found = stretches.section_of(asha)
    assert found is not None
    for step in found.steps:
        reached = [t for t in asha.trials if any(r.rung == step.rung for r in t.rungs)]
        assert step.count.reached == len(reached) > 0
    spent = sum(t.cost.epochs for t in asha.trials if t.kind in (Kind.SEARCH, Kind.CONTROL))
    assert found.saving.spent == spent == sum(s.count.cost.epochs for s in found.steps)
    assert sum(cost.epochs for cost in asha.cost.values()) == spent + 2 * 9
    assert asha.cost["lost"].epochs == 0
    stopped = [t for t in asha.trials if t.outcome is Outcome.STOPPED]
    assert sum(count for _, count in found.reasons) == len(stopped) > 0
    assert not found.resting


def test_its_page_says_how_far_trials_got(asha: ReportData) -> None:
    html = render(asha)
    assert 'id="stretches"' in html
    assert "3 of 9 epochs" in html
    assert '"rungs":' in html
    assert f"{METRIC} at rung 2" in html
    assert "all trials at their first rung" in html
    assert "Can the rule be trusted" not in html


def test_while_it_runs_the_paused_are_listed_the_best_first(asha: ReportData) -> None:
    loop = make_loop(manifest(budget={"trials": 24}), evaluate=learnt)
    stop: list[int] = []

    class Watch:
        def told(self, *_: Any) -> None: ...

        started = progressed = rested = told

        def tick(self, loop: Any) -> None:
            if loop.state.resting > 5 and not stop:
                stop.append(loop.state.resting)
                data = gather(loop)
                found = stretches.section_of(data)
                assert found is not None
                assert found.resting_count == loop.state.resting
                keys = [(-t.rung, -t.metrics[METRIC]) for t in found.resting]
                assert keys == sorted(keys)
                assert "Paused trials" in render(data)
                assert data.cost["search"].epochs + data.cost["control"].epochs == sum(
                    t.cost.epochs for t in loop.state.trials.values()
                )

    loop._listener = Watch()
    loop.run()
    assert stop


def test_without_a_ladder_there_is_no_section() -> None:
    loop = make_loop(manifest(budget={"trials": 6}, estimation={"type": "Full"}), evaluate=learnt)
    loop.run()
    data = gather(loop)
    assert (data.ladder, stretches.section_of(data)) == ((), None)
    assert all(not t.rungs for t in data.trials)
    assert 'id="stretches"' not in render(data)


def test_a_rule_without_a_ladder_has_the_section_and_its_calibration() -> None:
    loop = make_loop(stopping(0.5), engine=CurveEngine(learnt))
    loop.run()
    data = gather(loop)
    assert data.stopping is not None
    assert data.stopping.rule == "Median"
    assert data.stopping.calibration == loop.leaders.calibration
    found = stretches.section_of(data)
    assert found is not None
    assert len(found.ruled) == data.stopping.calibration.stopped
    assert dict(found.reasons)["Median, by the learning curve"] == len(found.ruled)
    html = render(data)
    assert "Can the rule be trusted" in html
    assert re.search(r"an\s+estimated [\d.]+ % of the stopped trials", html)


# -- what came true ----------------------------------------------------------------------------


def looked(number: int, reaches: float, reached: bool | None, **changes: Any) -> ReportTrial:
    look = ReportLook(2, 9, reaches, 0.8, 0.7, reached)
    return trial(number, looks=(look,), **changes)


def rule(*trials: ReportTrial, spare: float = 0.25) -> ReportData:
    found = Stopping("Domhan", 0.05, spare, Calibration(12, 4, 1))
    return laddered(*trials, stopping=found)


def test_probabilities_are_compared_with_what_came_true() -> None:
    """Of 16 that are given 2 % a quarter is spared, one of which reaches the bar; of 8 that are
    given 60 % each second one does."""
    stopped = [looked(n, 0.02, None, outcome=Outcome.STOPPED, ruled=True) for n in range(12)]
    spared = [looked(20 + n, 0.02, n == 0, spared=True) for n in range(4)]
    others = [looked(30 + n, 0.6, n % 2 == 0) for n in range(8)]
    data = rule(*stopped, *spared, *others)
    low, high = stretches.groups_of(data)
    assert (low.trials, low.predicted, low.reached) == (4, pytest.approx(0.02), 0.25)
    assert (high.trials, high.predicted, high.reached) == (8, pytest.approx(0.6), 0.5)
    html = render(data)
    assert "25.0 % of the stopped trials" in html
    assert '"calibration":' in html
    figure = stretch_figures.calibration([low, high])
    assert list(figure.data[1].y) == [0.25, 0.5]
    assert list(figure.data[1].error_y.arrayminus) == pytest.approx(
        [0.25 - low.interval[0], 0.5 - high.interval[0]]
    )


def test_a_probability_is_in_the_journal_of_a_run_and_comes_true_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kinase.estimation.rules import Verdict
    from kinase.estimation.rules.median import Median
    from kinase.experiment.entries import Granted, Told
    from kinase.experiment.journal import Journal

    said = Median.verdict

    def verdict(self: Median, one: Any, history: Any, bar: float) -> Verdict | None:
        found = said(self, one, history, bar)
        return found and replace(found, probability=0.97 if found.stop else 0.3, predicted=bar + 1)

    monkeypatch.setattr(Median, "verdict", verdict)
    loop = make_loop(stopping(0.5), engine=CurveEngine(learnt))
    loop.run()
    entries = list(Journal(loop.store).replay())
    stops = [e for e in entries if isinstance(e, Told) and e.probability is not None]
    goes = [e for e in entries if isinstance(e, Granted) and e.probability is not None]
    assert {e.probability for e in stops} == {0.97}
    assert {(e.probability, e.spared) for e in goes} == {(0.3, False), (0.97, True)}
    for entry in [*stops, *goes]:
        assert entry.bar is not None
        assert 0.5 < entry.bar <= 1  # the metric's value, not its loss
        assert entry.predicted == pytest.approx(entry.bar - 1)
    for entry in stops:
        values = f"val_accuracy {entry.bar:.4g} is needed, {entry.predicted:.4g} is expected"
        assert entry.message.endswith(values)
    data = gather(loop)
    for one in data.trials:
        value = one.metrics.get(METRIC, 0.0)
        for look in one.looks:
            if one.outcome is Outcome.SUCCEEDED:
                assert look.reached is (value >= look.bar)
            else:
                assert look.reached is None
    low, *_ = stretches.groups_of(data)
    assert low.trials == sum(t.spared for t in data.trials)


def test_the_file_of_all_trials_has_what_is_known_of_rungs_and_rules() -> None:
    data = rule(climbing(0, 0.1, 0.2), looked(1, 0.6, True, spared=True))
    found = stretches.columns(data, data.trials)
    assert found["rung"] == [1, None]
    assert found[f"{METRIC} at rung 0"] == [0.1, None]
    assert found[f"{METRIC} at rung 2"] == [None, None]
    assert found["spared"] == ["false", "true"]
    assert found["probability to reach the bar"] == [None, 0.6]
    assert stretches.columns(empty(trials=data.trials), data.trials) == {}

"""Which trial ran when, and in which slot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kinase.api.trial import Cost, Kind
from kinase.report import ReportData
from kinase.report.data import ReportTrial
from kinase.report.page import document
from kinase.report.timeline import MOST, stays, timeline, used
from tests.unit.report import samples
from tests.unit.report.test_page import Page

ONE = samples.trial(0, architecture={"layers": []}, counts={"macs": 1.0})


def ran(number: int, asked: float, ended: float | None, seconds: float = 0.0) -> ReportTrial:
    cost = Cost(epochs=1, device_seconds=seconds)
    return replace(ONE, number=number, asked=asked, ended=ended, cost=cost)


def data(*trials: ReportTrial, elapsed: float = 0.0) -> ReportData:
    return samples.empty(trials=trials, elapsed=elapsed)


def test_slots_waits_and_trainings_by_hand() -> None:
    """Trial 1 waits for 3 of its 5 s; trial 2 takes the slot that trial 0 left."""
    found = stays(data(ran(0, 0, 4, 4), ran(1, 0, 5, 2), ran(2, 4, 10, 6)))
    assert [(s.slot, s.asked, s.started, s.ended) for s in found] == [
        (0, 0, 0, 4),
        (1, 0, 3, 5),
        (0, 4, 4, 10),
    ]
    assert [s.waited for s in found] == [0, 3, 0]
    assert used(found) == pytest.approx(12 / 20)


def test_a_trial_under_way_lasts_until_now_and_lost_attempts_fit_in_its_time() -> None:
    found = stays(data(ran(0, 0, 4, 9), ran(1, 1, None), elapsed=6))
    assert [(s.started, s.ended) for s in found] == [(0, 4), (1, 6)]


def test_what_cost_nothing_takes_no_slot() -> None:
    counted = replace(ran(1, 0, 0), cost=Cost())
    assert [s.trial.number for s in stays(data(ran(0, 0, 4, 4), counted))] == [0]
    assert stays(data(replace(ONE, asked=None))) == []
    assert used([]) == 0.0


def test_bars_have_the_colour_of_their_kind_and_waits_are_apart() -> None:
    final = replace(ran(2, 300, 600, 290), kind=Kind.FINAL)
    made = data(ran(0, 0, 240, 240), ran(1, 0, 300, 120), final)
    figure = timeline(made, stays(made))
    bars = {bar.name: bar for bar in figure.data}
    assert list(bars) == ["waiting or starting", "search", "finalists"]
    assert figure.layout.xaxis.title.text.startswith("minutes")
    assert (bars["search"].y, bars["search"].base, bars["search"].x) == ((1, 2), (0, 3), (4, 2))
    assert bars["waiting or starting"].base == (0, 5)
    assert bars["waiting or starting"].x == pytest.approx((3, 1 / 6))
    assert "waited 3 min 00 s, trained 2 min 00 s, ended, succeeded" in bars["search"].text[1]


def test_of_many_trials_the_last_are_drawn() -> None:
    made = data(*(ran(n, n, n + 1, 1) for n in range(MOST + 50)))
    figure = timeline(made, stays(made))
    assert len(figure.data[0].x) == MOST


def test_the_page_has_it_where_the_journal_has_times() -> None:
    assert "timeline" in Page(document(samples.digits())).ids
    old = Page(document(data(ran(0, 0, 0, 5))))
    assert "timeline" not in old.ids
    assert "the journal has no times" in old.text

"""The page that compares searches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kinase.api.trial import Cost, Kind
from kinase.report import Incomparable, ReportData, named, render_comparison
from kinase.report.anytime import COSTS, curve
from kinase.report.groups import grouped
from kinase.report.versus import _over, _tests, ticks
from tests.unit.report import samples, searches
from tests.unit.report.searches import EVOLUTION, INHERIT, LEMONADE, NASH, RANDOM, search
from tests.unit.report.test_page import EVIL, Page

SECTIONS = ("head", "curves", "results", "reach", "costs", "differences", "runs")


def compared(*runs: ReportData, reference: str | None = None) -> Page:
    return Page(render_comparison(named(runs), reference))


def words(page: Page) -> str:
    return " ".join(page.text.split())


@pytest.fixture(scope="module")
def page() -> Page:
    """Five methods, five seeds each."""
    return compared(*searches.five_by_five())


def test_every_section_is_there(page: Page) -> None:
    assert page.ids >= {*SECTIONS, "anytime"}
    assert list(page.data["figures"]["anytime"]) == list(COSTS)
    assert all(f"#{i}" in {v for _, n, v in page.attributes if n == "href"} for i in SECTIONS[1:])


def test_page_refers_to_nothing_outside(page: Page) -> None:
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "poster", "data"):
            assert value.startswith(("#", "data:,")), (tag, name, value)


def test_each_group_has_a_line_a_colour_and_a_dash_of_its_own(page: Page) -> None:
    for figure in page.data["figures"]["anytime"].values():
        lines = [trace for trace in figure["data"] if trace.get("showlegend") is not False]
        assert [trace["name"] for trace in lines] == [
            *("Random", "Evolution, Full", "Evolution, Morphism", "NASH", "LEMONADE")
        ]
        assert len({trace["line"]["color"] for trace in lines}) == 5
        assert len({trace["line"]["dash"] for trace in lines}) == 5
        assert sum("Tint" in trace.get("fillcolor", "") for trace in figure["data"]) == 10


def test_tables_follow_the_unit_that_is_chosen(page: Page) -> None:
    parts = [v for _, n, v in page.attributes if n == "data-variant"]
    assert {unit: parts.count(unit) for unit in COSTS} == dict.fromkeys(COSTS, 3)
    names = {v for t, n, v in page.attributes if (t, n) == ("input", "name")}
    assert names == {"anytime", "anytime-reach", "anytime-costs"}


def trace(page: Page, name: str, unit: str = "epochs") -> dict:
    (found,) = [t for t in page.data["figures"]["anytime"][unit]["data"] if t.get("name") == name]
    return found


def test_figures_by_hand() -> None:
    """Trials take 12 epochs. Random ends at 0.6 and 0.8, median 0.7; NASH has 0.6 after one trial
    of four in seed 0, and 0.8 after two of four in seed 1."""
    random = [
        search([0.5, 0.5, 0.6, 0.4], RANDOM, seed=0, test=0.55),
        search([0.5, 0.6, 0.7, 0.8], RANDOM, seed=1, test=0.75),
    ]
    nash = [
        search([0.6, 0.7, 0.8, 0.9], NASH, INHERIT, 0, test=0.85),
        search([0.7, 0.8, 0.8, 0.8], NASH, INHERIT, 1, test=0.79),
    ]
    page = compared(*nash, *random)
    text = words(page)
    assert "NASH; Random" in text
    assert "Cost to be as good as Random" in text
    # what the card says is what the test shows, not the median of two runs
    assert "NASH, median of 2 against Random: too few seeds to tell, 2 seeds" in text
    assert "NASH 0.38 2 of 2 pairs 0.25, 0.50 0, 1" in text
    assert "Random 0.88 2 of 2 pairs 0.75, 1.00 0, 1" in text
    # runs, epochs, sample passes, at the end of the search, winner's validation and test
    assert "Random 2 48 51.7k 0.7000 (0.6000 to 0.8000) 0.7000 (0.6000 to 0.8000) 0.6500" in text
    assert "NASH 2 48 51.7k 0.8500 (0.8000 to 0.9000)" in text
    # after 5, 10, 20, 30, 50, 70 and 100 % of 48 epochs
    assert "median after epochs 2 5 10 14 24 34 48" in text
    assert "NASH – – – 0.6500 0.7500 0.7500 0.8500" in text
    line = trace(page, "Random")
    assert line["x"] == [12, 24, 36, 48]
    assert line["y"] == pytest.approx([0.5, 0.55, 0.65, 0.7])
    assert "The band reaches" not in text  # two runs are drawn one by one
    # search, control, finalists, networks by hand
    assert "Random 96 0 24 0" in text


def test_the_first_is_the_reference_without_random_search_or_whichever_is_named() -> None:
    runs = [search([0.5, 0.9], NASH), search([0.9], EVOLUTION)]
    assert "Cost to be as good as NASH" in words(compared(*runs))
    assert "Cost to be as good as Evolution" in words(compared(*runs, reference="Evolution"))
    with pytest.raises(Incomparable, match=r"no group 'x' .* groups are: NASH; Evolution"):
        compared(*runs, reference="x")


def test_minimized_values_are_best_where_they_are_least() -> None:
    random = [search([0.5, 0.4], RANDOM, seed=s, goal="minimize", test=0.1) for s in (0, 1)]
    ours = search([0.3, 0.9], NASH, seed=0, goal="minimize", test=0.1)
    page = compared(*random, ours)
    assert trace(page, "NASH")["y"] == [0.3, 0.3]
    assert trace(page, "Random")["y"] == [0.5, 0.4]
    low, high = page.data["figures"]["anytime"]["epochs"]["layout"]["yaxis"]["range"]
    assert low < 0.3 < 0.5 < high
    assert "NASH 0.50 1 of 1 pairs 0.50 0" in words(page)
    assert "to minimize" in words(page)


def test_what_is_never_reached_is_said() -> None:
    page = compared(search([0.9], RANDOM, test=0.9), search([0.1, 0.2], NASH, test=0.2))
    assert "NASH not reached 0 of 1 pairs not reached 0" in words(page)


def test_runs_of_unequal_length_are_seen_as_far_as_all_have_come() -> None:
    runs = [search([0.5, 0.6], RANDOM, seed=0), search([0.5] + 8 * [0.7], RANDOM, seed=1, test=0.7)]
    page = compared(*runs, search([0.8] * 4, NASH, seed=1, test=0.8))
    assert trace(page, "Random, 1 of 2 under way")["x"] == [12, 24]
    singles = page.data["figures"]["anytime"]["epochs"]["data"][0]
    assert singles["x"] == [12, 24, None, 12, 24, 108, None]
    text = words(page)
    assert "1 is under way: this page shows the state at the time" in text
    assert "Random (1 under way) 2 66 (24 to 108)" in text
    assert "Random random-full-0 0 Running 2 24" in text


def test_what_is_besides_the_search_is_stated_and_not_charged() -> None:
    cost = Cost(epochs=100, samples=1000, device_seconds=9.0)
    besides = tuple(
        replace(samples.trial(50 + n, kind, 0.99), cost=cost)
        for n, kind in enumerate((Kind.CONTROL, Kind.CONTROL, Kind.BASELINE))
    )
    run = search([0.5], NASH, test=0.5)
    page = compared(search([0.5], RANDOM), replace(run, trials=(*run.trials, *besides)))
    assert "NASH 12 200 12 100" in words(page)
    assert trace(page, "NASH")["x"] == [12]


def test_one_run_of_each_shows_no_variance() -> None:
    page = compared(search([0.5], RANDOM), search([0.5], NASH))
    assert "one run of each, so no difference shows its variance" in words(page)


@pytest.mark.parametrize(
    "runs",
    [
        [search([], RANDOM), search([], NASH)],
        [search([None], RANDOM, phase="Failed"), search([0.5], NASH)],
        [search([0.5], NASH, metric="val_loss"), search([0.5], LEMONADE, metric="val_loss")],
        [search([0.5], NASH, seed=s) for s in range(6)],
    ],
    ids=["nothing yet", "all failed", "no value of the metric", "one group"],
)
def test_poor_experiments_have_a_whole_page(runs: list[ReportData]) -> None:
    page = compared(*runs)
    assert page.ids >= set(SECTIONS)
    assert set(page.data["figures"]) <= page.ids
    for word in ("nan", "None", "inf", "undefined"):
        assert f" {word} " not in page.text


@pytest.mark.parametrize("count", [0, 1])
def test_one_alone_is_no_comparison(count: int) -> None:
    with pytest.raises(Incomparable, match="give two experiments or more"):
        compared(*[search([0.5])][:count])


def test_untrusted_text_stays_text() -> None:
    run = search([0.5], NASH, summary=((EVIL, EVIL),), name=EVIL, store_uri=EVIL, phase=EVIL)
    other = replace(search([0.5], RANDOM), summary=((EVIL, EVIL),))
    page = Page(render_comparison([(EVIL, run), ("<b>b", other)], EVIL))
    assert "img" not in page.tags
    assert "<b>b" in page.text
    assert len(page.scripts) == 3
    assert page.text.count(EVIL) > 5
    names = [t.get("name") for t in page.data["figures"]["anytime"]["trials"]["data"]]
    assert "&lt;b&gt;b, 1 of 1 under way" in names
    assert EVIL not in names


def test_groups_are_tested_against_the_reference() -> None:
    runs = [search([0.5, 0.6 + seed / 100], seed=seed) for seed in range(7)]
    runs += [search([0.5, 0.7 + seed / 50], NASH, seed=seed) for seed in range(7)]
    page = compared(*runs).text
    assert "Beyond chance" in page
    row = page[page.rindex("Beyond chance") :]
    assert "better" in row
    assert "0.0156" in row  # 2 / 2^7
    assert "against Random: better, 7 seeds, p 0.016" in " ".join(page.split())
    few = compared(*runs[:3], *runs[7:10]).text
    assert "too few seeds to tell" in few


@pytest.mark.parametrize("end", [1, 3, 7, 33, 123_456])
@pytest.mark.parametrize("unit", ["trials", "device seconds"])
def test_headings_of_costs_are_told_apart(end: int, unit: str) -> None:
    """Of 7 trials they were 0 1 1 2 4 5 7."""
    costs = ticks(end, unit)
    groups = grouped(named([search([0.5] * 2, seed=seed) for seed in range(2)]))
    assert costs[-1] == end
    assert costs == sorted(set(costs))
    assert unit == "device seconds" or all(cost == int(cost) >= 1 for cost in costs)
    [curves] = [[curve(run, unit) for run in group.runs] for group in groups]
    shown = _over(groups, groups[0], [[replace(c, spent=float(end)) for c in curves]], unit)
    assert len(set(shown["parts"])) == len(costs)
    assert "0" not in shown["parts"]


def test_a_seed_that_was_run_twice_is_one_pair_of_its_average() -> None:
    runs = [search([0.5], seed=seed) for seed in range(2)]
    twice = [search([v], NASH, seed=0, store_uri=f"file://{v}") for v in (0.9, 0.7)]
    orders = [grouped(named([*runs, *some])) for some in (twice, twice[::-1])]
    for random, nash in orders:
        curves = [[curve(run, "epochs") for run in group.runs] for group in (random, nash)]
        [(_, found)] = _tests((random, nash), random, curves)
        assert found.pairs == 1
        assert found.effect == pytest.approx(0.3)

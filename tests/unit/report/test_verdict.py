"""The verdict on a strategy: its test against counting, its level, and what it says of whom."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from kinase.api.trial import Cost, Kind, Outcome
from kinase.experiment.rungs import RungCount
from kinase.report import ReportData
from kinase.report.data import ReportTrial
from kinase.report.rungs import ReportRung, Step
from kinase.report.sides import random_start
from kinase.report.verdict import (
    LEVEL,
    MOST_POINTS,
    _first_fronts,
    chance,
    critical,
    tail,
    verdict,
)
from tests.unit.report import samples
from tests.unit.report.samples import METRIC

Values = Sequence[float | None]


def trial(number: int, kind: Kind, value: float | None, **changes: Any) -> ReportTrial:
    made = ReportTrial(
        number=number,
        kind=kind,
        outcome=Outcome.FAILED if value is None else Outcome.SUCCEEDED,
        architecture={},
        key=str(number),
        metrics={} if value is None else {METRIC: value},
        cost=Cost(epochs=10, device_seconds=10),
        fidelity="",
        order=number,
    )
    return replace(made, **changes)


def race(search: Values, control: Values, start: int = 0, **changes: Any) -> ReportData:
    """Trials of these values; those of the search after `start` are made of the first."""
    trials = [
        trial(n, Kind.SEARCH, v, parents=(0,) if start and n >= start else ())
        for n, v in enumerate(search)
    ]
    trials += [trial(1000 + n, Kind.CONTROL, v) for n, v in enumerate(control)]
    return samples.empty(trials=tuple(trials), **{"also": (), "spec": {}, **changes})


def word(data: ReportData) -> str | None:
    found = verdict(data)
    return None if found is None else found.word


LOW = [0.5 + 0.001 * i for i in range(20)]
HIGH = [0.8 + 0.001 * i for i in range(20)]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_the_tail_is_that_of_counting_who_is_next(rank: int, share: float) -> None:
    """All ways in which the first ten of both can be the strategy's or random search's."""
    for count in range(1, 9 - rank):
        whole = 0.0
        for labels in itertools.product((True, False), repeat=10):
            others = [i for i, mine in enumerate(labels) if not mine]
            seen = labels[: others[rank - 1]].count(True) if len(others) >= rank else 10
            if seen >= count:
                whole += math.prod(share if mine else 1 - share for mine in labels)
        assert tail(count, rank, share) == pytest.approx(whole, abs=1e-12)


def test_the_tail_of_thousands_of_trials_is_scipys() -> None:
    """Its binomial coefficients are beyond any float."""
    for count, rank, share in ((7000, 200, 0.97), (4000, 1000, 0.8), (900, 100, 0.9)):
        expected = binom.cdf(rank - 1, count + rank - 1, 1 - share)
        assert tail(count, rank, share) == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_the_critical_count_is_the_first_that_is_rare() -> None:
    for rank, share in itertools.product((1, 4), (0.3, 0.8)):
        found = critical(rank, share, 0.05, 200)
        assert found is not None
        assert tail(found, rank, share) <= 0.05 < tail(found - 1, rank, share)
    assert critical(1, 0.8, 0.05, 13) is None  # 0.8 ** 14 is the first below 0.05
    assert critical(1, 0.8, 0.05, 14) == 14


def test_what_is_clearly_better_or_worse_is_said_to_be() -> None:
    better = verdict(race(HIGH, LOW))
    assert better is not None
    assert better.word == "better"
    assert better.gain == pytest.approx(0.3)
    assert better.interval is not None
    # shifts that make the test say nothing: the best tenth is the 2 best, 2 of 20 random ones
    k = critical(2, 0.5, LEVEL / 2, 20)
    assert k is not None
    assert better.interval[0] == pytest.approx(HIGH[-k] - LOW[-2])
    assert better.interval[1] == pytest.approx(HIGH[-2] - LOW[-k])
    assert word(race(LOW, HIGH)) == "worse"
    assert word(race(HIGH, LOW, goal="minimize")) == "worse"
    assert word(race(LOW, HIGH, goal="minimize")) == "better"


def test_equal_values_are_no_difference() -> None:
    assert word(race(LOW, LOW)) == "no difference shown"
    assert word(race([0.5] * 20, [0.5] * 20)) == "no difference shown"


def test_one_lucky_trial_is_no_difference() -> None:
    assert word(race([*LOW[:19], 0.99], LOW)) == "no difference shown"


def test_the_random_start_is_left_out() -> None:
    data = race([*LOW, *HIGH], LOW, start=20)
    found = verdict(data)
    assert found is not None
    assert (found.start, found.word, found.cost) == (20, "better", 200)
    assert "20 trials of the strategy after its random start of 20" in found.text
    # good values of the start are not the strategy's
    assert word(race([*HIGH, *LOW], LOW, start=20)) == "no difference shown"


def made(*operations: str | tuple[str, tuple[int, ...]]) -> list[ReportTrial]:
    """Trials of these operations, some with parents."""
    each = [o if isinstance(o, tuple) else (o, ()) for o in operations]
    return [
        trial(n, Kind.SEARCH, 0.5, operation=operation, parents=parents)
        for n, (operation, parents) in enumerate(each)
    ]


CHILD = ("mutate", (0,))


@pytest.mark.parametrize(
    ("strategy", "operations", "start"),
    [
        ("Evolution", ["sample"] * 7 + [CHILD, "sample", CHILD], 7),
        ("Evolution", ["start", "start", "sample", CHILD], 3),
        ("EAS", ["start", ("episode", (0,))], 1),
        ("EAS", ["start", "episode", "episode"], 1),  # the start network failed
        ("LEMONADE", ["sample", ("morphism", (0,))], 1),
        # the whole budget is below the random start
        ("Evolution", ["sample"] * 7, None),
        ("LocalSearch", ["start"] * 3, None),
        ("Random", ["sample"] * 7, 0),
        # a strategy of another package: a model's proposals have no parents
        ("Custom", ["sample", "sample", "model", "model"], 2),
        ("Custom", ["random", "random", "tpe"], 2),
        ("Custom", ["tpe", "tpe", "tpe"], 0),  # unmarked: no trial says that it is random
        ("Custom", ["sample"] * 7, 0),
        ("Custom", ["sample", CHILD], 1),
        ("", [], 0),
    ],
)
def test_the_start_is_what_comes_before_the_first_trial_that_rests_on_results(
    strategy: str, operations: list[Any], start: int | None
) -> None:
    assert random_start(made(*operations), strategy) == start


@pytest.mark.parametrize("estimation", ["Full", "Morphism"])
def test_without_a_trial_after_the_start_there_is_no_verdict(estimation: str) -> None:
    spec: Any = {
        "strategy": {"type": "Evolution", "evolution": {"population": 20, "sample": 9}},
        "estimation": {"type": estimation},
    }
    data = race(HIGH, LOW, spec=spec, phase="Succeeded")
    found = verdict(data)
    assert found is not None
    assert (found.word, found.gain, found.start) == ("no search beyond the random start", None, 20)
    assert found.text == (
        "no search beyond the random start: all 20 trials of the strategy were proposed before it "
        "looked at results (strategy.evolution.population is 20), so there is nothing to compare "
        "with random search"
    )
    assert word(race(HIGH, LOW, start=19, spec=spec)) != found.word
    one = verdict(race(HIGH[:1], [], spec={"strategy": {"type": "EAS"}}, phase="Running"))
    assert one is not None
    assert one.text.startswith(
        "no search beyond the random start yet: the one trial of the strategy was proposed before "
        "it looked at results, so"
    )


def test_a_strategy_of_another_package_that_marks_nothing_counts_whole() -> None:
    found = verdict(race(HIGH, LOW, spec={"strategy": {"type": "Custom"}}))
    assert found is not None
    assert (found.word, found.start) == ("better", 0)
    assert "20 trials of the strategy (all of them, since none says what it was made" in found.text


def test_where_weights_are_inherited_the_start_is_part_of_the_search() -> None:
    spec = {"estimation": {"type": "Morphism"}}
    found = verdict(race([*LOW, *HIGH], LOW, start=20, spec=spec))
    assert found is not None
    assert (found.start, found.cost) == (0, 200)
    assert "(its random start of 20 included, since weights are inherited)" in found.text


def test_trials_are_matched_by_cost_not_by_number() -> None:
    """Children of a tenth of the cost: ten of them for one random trial."""
    same = race([v + 1e-4 for v in LOW], LOW)
    assert word(same) == "no difference shown"
    cheap = tuple(
        replace(t, cost=Cost(epochs=1)) if t.kind is Kind.SEARCH else t for t in same.trials
    )
    found = verdict(replace(same, trials=cheap))
    assert found is not None
    assert (found.word, found.cost) == ("better", 20)
    assert found.search == pytest.approx(max(LOW) + 1e-4)  # all 20 of them
    assert found.control == pytest.approx(sum(LOW) / 20 + 0.0005, abs=0.006)  # 2 of 20


def test_device_seconds_are_the_cost_where_time_is_the_budget() -> None:
    found = verdict(race(HIGH, LOW, spec={"budget": {"deviceHours": 1.0}}))
    assert found is not None
    assert found.unit == "device seconds"
    found = verdict(race(HIGH, LOW, spec={"budget": {"deviceHours": 1.0, "trials": 9}}))
    assert found is not None
    assert found.unit == "epochs"


def test_failures_cost_and_have_no_value() -> None:
    found = verdict(race([*HIGH, *[None] * 20], LOW))
    assert found is not None
    assert found.word == "better"
    assert found.cost == 200
    # half of the strategy's cost brought nothing, so half of its values are expected of as much
    assert found.search == pytest.approx(sum(HIGH[9:]) / 11, abs=0.009)


def test_a_small_validation_part_hides_a_difference() -> None:
    near = [v + 0.02 for v in LOW]
    assert word(race(near, LOW)) == "better"
    assert word(race(near, LOW, validation=100_000)) == "better"
    assert word(race(near, LOW, validation=200)) == "no difference shown"
    wide = verdict(race(near, LOW, validation=200))
    assert wide is not None
    assert wide.interval is not None
    # two shares of 200 samples, at most independent: 1.645 sqrt(2 a (1 - a) / n)
    assert 0.02 - wide.interval[0] > 1.64 * math.sqrt(2 * 0.54 * 0.46 / 200)


@pytest.mark.parametrize(
    ("search", "control"), [([], []), ([0.5], []), ([], [0.5]), ([0.5], [None]), ([None], [0.5])]
)
def test_nothing_to_compare(search: Values, control: Values) -> None:
    assert verdict(race(search, control)) is None


def test_an_infinite_value_is_none() -> None:
    data = race([math.inf], [0.4])
    assert verdict(data) is None


def test_a_few_trials_tell_nothing_and_say_what_it_takes() -> None:
    found = verdict(race(HIGH[:4], LOW[:1]))
    assert found is not None
    assert found.word == "too few trials to tell"
    assert found.text.endswith(
        "it takes 14 trials of the strategy after its random start (so far: 4), or 2 "
        "random ones (so far: 1)"
    )


@pytest.mark.parametrize(("share", "start"), [(0.2, 0), (0.2, 20), (0.5, 0)])
def test_random_search_is_seldom_called_better_than_itself(share: float, start: int) -> None:
    """Of 300 searches 15 are better by chance at the level, 26 with three deviations more."""
    words = []
    for seed in range(300):
        values = np.random.default_rng(seed).beta(8, 2, 100).round(3).tolist()
        count = round(100 * (1 - share))
        words.append(word(race(values[:count], values[count:], start)))
    assert words.count("better") <= 26
    assert words.count("worse") <= 26


# Several objectives


def fronts(search: Sequence[tuple[float, float]], control: Sequence[tuple[float, float]]) -> Any:
    def made(kind: Kind, number: int, value: float, params: float) -> ReportTrial:
        return trial(number, kind, value, metrics={METRIC: value, "params": params})

    trials = [made(Kind.SEARCH, n, *p) for n, p in enumerate(search)]
    trials += [made(Kind.CONTROL, 1000 + n, *p) for n, p in enumerate(control)]
    return samples.empty(trials=tuple(trials), also=(("params", "minimize"),), spec={})


def test_fronts_are_told_apart() -> None:
    behind = [(0.5 + 0.01 * i, 100 * 1.2**i) for i in range(20)]
    ahead = [(v + 0.1, p / 2) for v, p in behind]
    found = verdict(fronts(ahead, behind))
    assert found is not None
    assert (found.word, found.interval) == ("better", None)
    assert found.gain is not None
    assert found.gain > 0.1
    assert "hypervolume" in found.text
    assert word(fronts(behind, ahead)) == "worse"
    assert word(fronts(behind, behind)) == "no difference shown"


def test_of_one_objective_the_chance_is_the_exact_tail() -> None:
    rng = np.random.default_rng(0)
    for rank, share in ((1, 0.5), (2, 0.7)):
        ours, theirs = rng.random(30) - 0.1, rng.random(30)
        count = int((ours < np.sort(theirs)[rank - 1]).sum())
        found = chance([(x,) for x in ours], [(x,) for x in theirs], rank, share)
        assert found == pytest.approx(tail(count, rank, share), abs=0.04)


def test_random_fronts_are_seldom_told_apart() -> None:
    words = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        points = [(float(a), float(10**b)) for a, b in rng.random((40, 2))]
        words.append(word(fronts(points[:28], points[28:])))
    assert words.count("better") <= 11  # 5 by chance, three deviations more
    assert words.count("worse") <= 11


def test_of_a_large_front_a_draw_is_compared() -> None:
    """Each point with each other would need gigabytes."""
    front = [(float(i), float(-i)) for i in range(5000)]
    kept = _first_fronts([*front, (9e3, 9e3)])
    assert len(kept) == len(set(kept)) == 2 * MOST_POINTS
    assert max(kept) < 5000


def test_trials_of_several_rungs_are_compared_at_their_first() -> None:
    """A trial that trained longer is better for that alone: of two random sides with the same
    values at the first rung nothing is said, though one of them has more promotions."""

    def climbed(made: ReportTrial, promoted: bool) -> ReportTrial:
        low = ReportRung(0, 1, made.metrics, Cost(epochs=1), 1.0)
        if not promoted:
            return replace(made, rungs=(low,), cost=low.cost)
        high = {METRIC: made.metrics[METRIC] + 0.4}
        return replace(made, rungs=(low,), metrics=high, cost=Cost(epochs=10))

    values = [0.1 + 0.01 * (n * 7 % 23) for n in range(23)]
    data = race(values, values[:12], start=1)
    promoted = replace(
        data,
        trials=tuple(climbed(t, t.kind is Kind.SEARCH and t.number % 3 == 0) for t in data.trials),
    )
    assert word(promoted) == "no difference shown"
    found = verdict(promoted)
    assert found is not None
    assert found.search is not None
    assert found.search < 0.4
    better = race([v + 0.3 for v in values], values[:12], start=1)
    better = replace(better, trials=tuple(climbed(t, False) for t in better.trials))
    assert word(better) == "better"


def test_brackets_that_begin_at_different_rungs_are_not_mixed() -> None:
    """A value after more epochs is better for that alone: the trials of the lowest first rung are
    compared, the costs are theirs, and the verdict says so."""

    def begun(made: ReportTrial, rung: int) -> ReportTrial:
        metrics = {METRIC: made.metrics[METRIC] + 0.4 * rung}
        cost = Cost(epochs=3**rung)
        rungs = (ReportRung(rung, 3**rung, metrics, cost, 1.0),)
        return replace(made, rungs=rungs, metrics=metrics, cost=cost, first=rung)

    values = [0.1 + 0.01 * (n * 7 % 23) for n in range(24)]
    ladder = tuple(Step(rung, "", RungCount(rung)) for rung in (0, 1))
    data = race(values, values[:12], start=1, ladder=ladder)
    of_one = replace(data, trials=tuple(begun(t, 0) for t in data.trials))
    mixed = replace(
        data,
        trials=tuple(
            begun(t, int(t.kind is Kind.SEARCH and t.number % 3 == 2)) for t in data.trials
        ),
    )
    assert word(mixed) == "no difference shown"
    found = verdict(mixed)
    assert found is not None
    assert "the trials that begin at rung 0, at its end" in found.text
    assert found.search is not None
    assert found.search < 0.4
    whole = verdict(of_one)
    assert whole is not None
    assert "all trials at their first rung" in whole.text


def test_where_children_inherit_on_a_ladder_what_their_parents_cost_counts() -> None:
    """At its first rung, a child has what its parent was trained for."""

    def child(made: ReportTrial) -> ReportTrial:
        rungs = (ReportRung(2, 3, made.metrics, Cost(epochs=3), 1.0),)
        return replace(made, rungs=rungs, cost=Cost(epochs=3))

    def whole(made: ReportTrial, epochs: int) -> ReportTrial:
        rungs = (ReportRung(0, 1, {METRIC: 0.1}, Cost(epochs=1), 1.0),)
        return replace(made, rungs=rungs, cost=Cost(epochs=epochs))

    data = race([0.5] * 4 + [0.9 + 0.001 * n for n in range(12)], LOW[:12], start=4)
    trials = tuple(
        child(t) if t.parents else whole(t, 100 if t.kind is Kind.SEARCH else 1)
        for t in data.trials
    )
    spec = {"strategy": {"type": "NASH"}, "estimation": {"type": "ASHA"}}
    ladder = (Step(0, "", RungCount(0)), Step(1, "", RungCount(1)))
    data = replace(data, trials=trials, ladder=ladder, spec=spec)
    assert word(data) == "better"
    spec = spec | {"estimation": {"type": "ASHA", "inherit": {"eta": 3}}}
    found = verdict(replace(data, spec=spec))
    assert found is not None
    assert found.word == "no difference shown"
    assert found.control == pytest.approx(LOW[11])
    assert "12 epochs, all trials at the last rung of each, with all that they cost" in found.text
    assert found.start == 0


def test_what_the_choices_of_a_supernet_led_to_is_placed_among_random_candidates() -> None:
    spec = {"strategy": {"type": "DARTS"}, "estimation": {"type": "OneShot"}}
    data = race([0.5], [0.1, 0.3, 0.6, 0.7], spec=spec)
    finals = (
        trial(90, Kind.FINAL, 0.93, parents=(data.trials[0].number,)),
        trial(91, Kind.FINAL, 0.95, parents=(data.trials[-1].number,)),
    )
    found = verdict(replace(data, trials=(*data.trials, *finals)))
    assert found is not None
    assert found.word == "too few trials to tell"
    assert found.text == (
        "too few trials to tell: with the weights of the supernet, what its choices led to has "
        "0.5000, better than 2 of 4 random candidates; trained, 0.9300 and the best random one "
        "0.9500"
    )

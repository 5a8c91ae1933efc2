"""Importance of choices: against closed forms, below noise, and what counts as a choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import f_oneway, rankdata

from kinase.api.trial import Kind
from kinase.report import ReportData
from kinase.report.importance import FEWEST, choices, columns, importance, ranks, shares
from tests.unit.report import samples
from tests.unit.report.samples import METRIC


def data(architectures: list[Any], values: list[float]) -> ReportData:
    made = samples.trial(0, architecture={"layers": []}, counts={"macs": 1.0})
    trials = tuple(
        replace(made, number=n, order=n, architecture=a, metrics={METRIC: v})
        for n, (a, v) in enumerate(zip(architectures, values, strict=True))
    )
    return samples.empty(trials=trials)


def test_a_full_factorial_is_divided_into_its_main_effects() -> None:
    """y = a_i + b_j on all pairs: the shares are those of the two sums of squares, here 5 to 2,
    which with many replicates is the correction's limit, too."""
    a, b = np.meshgrid([0.0, 1.0, 2.0, 3.0], [0.0, np.sqrt(2.0)], indexing="ij")
    first, second = np.meshgrid(range(4), range(2), indexing="ij")
    repeat = 500
    codes = [np.tile(c.ravel(), repeat) for c in (first, second)]
    found = shares(codes, np.tile((a + b).ravel(), repeat)[None])[0]
    assert found == pytest.approx([1.25 / 1.75, 0.5 / 1.75], abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_the_share_is_that_of_the_f_statistic(seed: int) -> None:
    """Epsilon squared is (F - 1) (k - 1) / ((k - 1) F + n - k), or 0."""
    rng = np.random.default_rng(seed)
    codes, values = rng.integers(3, size=40), rng.normal(size=40)
    values += 0.8 * codes
    f = f_oneway(*(values[codes == k] for k in range(3))).statistic
    expected = max(0.0, 2 * (f - 1) / (2 * f + 37))
    assert shares([codes], values[None])[0, 0] == pytest.approx(expected)
    assert ranks(values.round(1)) == pytest.approx(rankdata(values.round(1)))


def random_chains(rng: np.random.Generator, count: int) -> list[Any]:
    ops = ("conv", "sepconv", "maxpool")
    return [
        {
            "layers": [
                {"op": ops[rng.integers(3)], "width": int(2 ** rng.integers(3, 6))}
                for _ in range(rng.integers(2, 6))
            ]
        }
        for _ in range(count)
    ]


def test_what_matters_is_named_and_what_does_not_is_left_out() -> None:
    rng = np.random.default_rng(0)
    chains = random_chains(rng, 80)
    noise = rng.normal(0, 0.02, 80)
    values = [0.5 + 0.1 * len(c["layers"]) + e for c, e in zip(chains, noise, strict=True)]
    found = importance(data(chains, values))
    assert found is not None
    first = found.shown[0]
    assert first.choice == "number of layers"
    assert 0.85 < first.interval[0] <= first.share <= first.interval[1] <= 1
    assert first.best.startswith("5 (")
    assert first.p < 0.01
    # counts of operations rise with the depth and so go with the value; the first layer's does not
    assert "layers[0] op" not in [each.choice for each in found.shown]
    assert found == importance(data(chains, values))


def test_where_no_choice_matters_nothing_is_shown() -> None:
    """Of 60 searches 3 show something by chance at the level, 9 with more than three deviations."""
    shown = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = importance(data(random_chains(rng, 24), rng.normal(size=24).tolist()), seed)
        assert found is not None
        shown += bool(found.shown)
    assert shown <= 9


@pytest.mark.parametrize("values", [[0.5] * FEWEST, [0.1, 0.9] * (FEWEST // 2)])
def test_equal_values_and_equal_architectures_show_nothing(values: list[float]) -> None:
    same = importance(data([{"op": "conv"}] * FEWEST, values))
    assert same is not None
    assert (same.shown, same.choices) == ((), 0)
    chains = random_chains(np.random.default_rng(0), FEWEST)
    found = importance(data(chains, [0.5] * FEWEST))
    assert found is not None
    assert found.shown == ()
    assert importance(data(chains[1:], [0.5] * (FEWEST - 1))) is None


def test_choices_of_any_genotype() -> None:
    chain = {"layers": [{"op": "conv", "width": 8, "skip": None}, {"op": "conv", "width": 16}]}
    found = choices(chain)
    assert found["number of layers"] == 2
    assert found["average layers width"] == 12
    assert found["count of layers op conv"] == 2
    assert found["layers[0] skip"] == "none"
    cell = {"normal": [[["skip", 0], ["sep", 1]]], "shared": True}
    assert choices(cell)["normal[0][1] operation"] == "sep"
    assert choices(cell)["normal[0][1] source"] == "1"
    assert choices(cell)["count of normal operation sep"] == 1
    assert choices(cell)["shared"] == "true"
    assert choices("text") == {"": "text"}
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    choices(deep)  # does not run out of stack


def test_a_choice_that_says_the_same_as_another_is_left_out() -> None:
    names, levels = columns(
        [{"a": x, "b": str(x), "c": 1.0, "count of d": x} for x in (1.0, 2.0, 3.0)] + [{"a": 1.0}]
    )
    assert (names, levels) == (["a", "count of d"], [["1", "2", "3", "1"], ["1", "2", "3", "0"]])


def test_finalists_do_not_count() -> None:
    chains = random_chains(np.random.default_rng(0), FEWEST)
    made = data(chains, [0.1] * FEWEST)
    finals = tuple(replace(t, kind=Kind.FINAL) for t in made.trials)
    assert importance(replace(made, trials=finals)) is None

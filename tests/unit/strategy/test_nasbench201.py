"""Regret on NAS-Bench-201 through the loop: the benchmark's bounds, with fewer seeds."""

from __future__ import annotations

import math
import statistics

import pytest

from bench.nasbench201 import METHODS, RUNGS, Method, expected_regret, run, table

SEEDS = 24
FEW = 8
BOUNDS = {
    "random": 0.71,
    "evolution": 0.21,
    "local search": 0.16,
    "local search, 16 at once": 0.197,
    "local search, 12 epochs": 0.04,
}


def test_the_table_is_whole() -> None:
    values = [row[200] for row in table().values()]
    assert len(values) == 15_625
    assert max(values) == 91.57


def test_the_harness_gives_random_search_its_exact_expectation() -> None:
    assert expected_regret(150) == pytest.approx(0.71, abs=0.03)
    regrets = [regret for regret, _ in run(METHODS[0], range(SEEDS))]
    error = statistics.stdev(regrets) / math.sqrt(SEEDS)
    assert statistics.fmean(regrets) == pytest.approx(expected_regret(150), abs=3 * error)


@pytest.mark.parametrize("method", METHODS[1:], ids=lambda m: m.name)
def test_mean_regret_is_within_its_bound(method: Method) -> None:
    results = run(method, range(SEEDS))
    regrets = [regret for regret, _ in results]
    error = statistics.stdev(regrets) / math.sqrt(SEEDS)
    assert statistics.fmean(regrets) <= BOUNDS[method.name] + 2 * error
    if "12 epochs" in method.name:
        assert {cost for _, cost in results} == {17.0}


@pytest.mark.parametrize(("strategy", "bound"), [("evolution", 0.17), ("local search", 0.035)])
def test_mean_regret_of_two_rungs_promoted_last(strategy: str, bound: float) -> None:
    [method] = [m for m in RUNGS if m.name == f"cost 17, {strategy}, ASHA last, eta 40"]
    results = run(method, range(FEW))
    regrets = [regret for regret, _ in results]
    error = statistics.stdev(regrets) / math.sqrt(FEW)
    assert statistics.fmean(regrets) <= bound + 2 * error
    assert {cost for _, cost in results} == {17.0}

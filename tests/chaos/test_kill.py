"""`kill -9` at random moments, against an undisturbed run. The benchmark does more of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.kill import End, campaign, undisturbed_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[End, float]:
    return undisturbed_run(tmp_path_factory.mktemp("undisturbed") / "whole")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", ["run", "worker"])
@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.soak)])
def test_a_killed_experiment_equals_the_undisturbed_one(
    victim: str, kills: int, whole: tuple[End, float], tmp_path: Path
) -> None:
    outcome = campaign(victim, kills=kills, seed=1, folder=tmp_path, whole=whole)
    assert outcome["kills"] == kills
    assert outcome["differences"] == []

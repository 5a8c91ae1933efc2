"""`kill -9` at random moments, against an undisturbed run. The benchmark does more of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.kill import campaign


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", ["run", "worker"])
@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.soak)])
def test_a_killed_experiment_equals_the_undisturbed_one(
    victim: str, kills: int, tmp_path: Path
) -> None:
    outcome = campaign(victim, kills=kills, seed=1, folder=tmp_path)
    assert outcome["kills"] == kills
    assert outcome["differences"] == []

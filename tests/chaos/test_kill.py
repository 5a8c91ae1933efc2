"""`kill -9` at random moments, against an undisturbed run. The benchmark does more of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.kill import campaign


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["run", "worker"])
def test_a_killed_experiment_equals_the_undisturbed_one(victim: str, tmp_path: Path) -> None:
    outcome = campaign(victim, kills=2, seed=1, folder=tmp_path)
    assert outcome["kills"] == 2
    assert outcome["differences"] == []

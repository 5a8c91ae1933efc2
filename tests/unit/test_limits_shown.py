"""What a person sees of the limits, before a search, while it runs, and afterwards."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kinase import validation
from kinase.api import Kind
from kinase.console import Progress
from kinase.experiment.loop import Loop
from kinase.report import render
from kinase.report.control import ended
from kinase.report.gather import gather
from kinase_controller.status import Summary
from tests.unit.experiment.helpers import INFO, make_loop
from tests.unit.experiment.test_limits import LARGE, limited


@pytest.fixture(scope="module")
def searched() -> tuple[Loop, str]:
    """A local search with neighbours above a limit, and what its terminal shows."""
    text = io.StringIO()
    search = {"type": "LocalSearch", "localSearch": {"initial": 1}}
    baselines = [{"name": "by-hand", "architecture": LARGE}]
    progress = Progress(Console(file=text, width=200))
    loop = make_loop(limited(strategy=search, baselines=baselines), listener=progress)
    loop.run()
    console = Console(file=text, width=200)
    console.print(progress.render(loop))
    return loop, text.getvalue()


def test_the_terminal_says_the_limits_and_what_is_above_them(searched: tuple[Loop, str]) -> None:
    loop, text = searched
    assert "objective.limits: at most 200 params; " in text
    assert "note: the baseline by-hand is above objective.limits (params 1,954" in text
    assert "Infeasible: params " in text
    assert f"0 failed, {loop.state.excluded} above a limit" in text


def test_the_report_says_them(searched: tuple[Loop, str]) -> None:
    loop, _ = searched
    data = gather(loop)
    above = loop.state.excluded
    assert ("Limits", f"at most 200 params; {above} proposals were set aside") in data.summary
    assert sum(t.excluded for t in data.trials) == above
    assert len(ended(data, Kind.SEARCH)) == loop.state.counts[Kind.SEARCH]
    assert "is above the limit 200" in render(data)


def test_the_status_counts_no_trial_that_is_above_a_limit(searched: tuple[Loop, str]) -> None:
    loop, _ = searched
    counts = Summary(loop).fields().trials
    assert (counts.total, counts.succeeded, counts.infeasible) == (20, 20, 0)


@pytest.mark.parametrize(
    ("spec", "code", "said"),
    [
        ({}, 0, "m.yaml: objective.limits: at most 200 params; "),
        ({"most": 3}, 0, "m.yaml: warning: objective.limits: at most 3 params; none of 100 random"),
        (
            {"strategy": {"type": "Evolution", "evolution": {"start": [LARGE]}}},
            2,
            "m.yaml:1: spec.strategy.evolution.start[0]: params 1,954 is above the limit 200",
        ),
    ],
)
def test_validation_says_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = limited(**spec)
    Path("m.yaml").write_text(made.model_dump_json(by_alias=True, exclude_unset=True))
    monkeypatch.setattr(validation, "read_data", lambda *_: INFO)
    found, lines = validation.validate_files(["m.yaml"])
    assert found == code, lines
    assert any(line.startswith(said) for line in lines), lines

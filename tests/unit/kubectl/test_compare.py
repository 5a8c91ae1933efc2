"""`compare` of experiments on a cluster, and of what lies here beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from kinase.cli import app
from kinase.cli_options import Access, Target
from kinase.report import ReportData
from kinase_kubectl import report
from kinase_kubectl.app import plugin
from kinase_kubectl.problem import Problem
from tests.unit.report.searches import NASH, RANDOM, search


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Target, str, Access]]:
    """What is asked of a cluster that has `random`, `nash` and one in another metric."""
    monkeypatch.chdir(tmp_path)
    held = {
        "random": search([0.5, 0.6], RANDOM),
        "nash": search([0.7], NASH),
        "loss": search([0.7], NASH, seed=1, metric="val_loss"),
    }
    found: list[tuple[Target, str, Access]] = []

    def gathered(target: Target, name: str, access: Access) -> ReportData:
        found.append((target, name, access))
        if name not in held:
            raise Problem(f"{name} not found")
        return held[name]

    monkeypatch.setattr(report, "gathered", gathered)
    return found


@pytest.mark.parametrize("commands", [app, plugin], ids=["kinase", "kubectl kinase"])
def test_experiments_by_their_names(
    commands: object, asked: list[tuple[Target, str, Access]], tmp_path: Path
) -> None:
    words = ["compare", "random", "nash", "-n", "nas", "--endpoint", "http://x:1"]
    done = CliRunner().invoke(commands, words)  # type: ignore[arg-type]
    assert (done.exit_code, done.stdout) == (0, "comparison.html\n")
    assert "<h1>Random; NASH</h1>" in (tmp_path / "comparison.html").read_text()
    where = (Target("nas"), Access("http://x:1"))
    assert [(target, access) for target, _, access in asked] == [where] * 2
    assert [name for _, name, _ in asked] == ["random", "nash"]


@pytest.mark.parametrize(
    ("commands", "names", "code", "said"),
    [
        (app, ["random", "none"], 1, "error: none not found\n"),
        (plugin, ["random", "none"], 1, "error: none not found\n"),
        (app, ["random", "loss"], 2, "kinase: random-full-0 and nash-full-1 cannot be compared, "),
        (
            plugin,
            ["random", "loss"],
            2,
            "error: random-full-0 and nash-full-1 cannot be compared, ",
        ),
    ],
)
def test_what_goes_wrong_is_said(commands: object, names: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(commands, ["compare", *names])  # type: ignore[arg-type]
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith(said)
    lines = done.stderr.splitlines()
    assert all(line.startswith("  spec.") for line in lines[1:])

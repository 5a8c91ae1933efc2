"""`kinase compare`, of searches that were run here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kinase.cli import app
from kinase.experiment import identity
from kinase.experiment.check import load_checked
from kinase.experiment.final_outputs import same_task
from kinase.store import open_store
from tests.unit.experiment.helpers import INFO, experiment, make_loop


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def searched(name: str, **spec: Any) -> str:
    """The manifest of a search that was run, on made-up values instead of training."""
    made = experiment(**spec, storage={"uri": f"file://{Path.cwd()}/runs"})
    document = made.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["metadata"]["name"] = name
    Path(f"{name}.yaml").write_text(yaml.safe_dump(document))
    manifest = load_checked(f"{name}.yaml")
    store = open_store(manifest.spec.storage).sub(manifest.directory)
    identity.claim(store, manifest)
    same_task(store, INFO)
    make_loop(manifest, store).run()
    return f"{name}.yaml"


def compare(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["compare", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_searches_are_compared() -> None:
    files = [
        searched(f"{kind}-{seed}".lower(), strategy={"type": kind}, seed=seed)
        for kind in ("LocalSearch", "Random")
        for seed in (0, 1)
    ]
    assert compare(*files) == (0, "comparison.html\n", "")
    text = Path("comparison.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "<h1>LocalSearch; Random</h1>" in text
    assert "4 runs in 2 groups" in text
    assert "Cost to be as good as Random" in text
    words = ["--label", "neighbours", "--label", "chance", "--reference", "neighbours"]
    code, output, _ = compare(*files, *words, "-o", "-")
    assert code == 0
    assert "<h1>neighbours; chance</h1>" in output
    assert "Cost to be as good as neighbours" in output


def test_what_cannot_be_compared_is_said_in_one_line() -> None:
    here = Path.cwd()
    one, third = searched("one"), searched("third", seed=1)
    for words, message in {
        (one, one): f"one is given twice: file://{here}/runs/default/one",
        (one,): "give two experiments or more",
        (one, third, "--store", f"file://{here}/none"): "none/default/one",
        (one, third, "--label", "a", "--label", "b"): "2 labels for 1 group",
        (one, third, "--reference", "x"): "there is no group 'x' to compare with",
        (one, third, "-o", "none/x.html"): "none/x.html: there is no folder none; create it",
    }.items():
        code, output, error = compare(*words)
        assert (code, output) == (2, "")
        assert error.startswith("kinase: ")
        assert message in error
        assert error.count("\n") == 1
    assert not Path("comparison.html").exists()


def test_what_makes_searches_unlike_is_listed() -> None:
    one = searched("one")
    loss = searched("other", objective={"metric": "val_loss"}, training={"epochs": 7})
    code, output, error = compare(one, loss)
    assert (code, output) == (2, "")
    head, *lines = error.splitlines()
    assert head.startswith("kinase: one and other cannot be compared, because these differ:")
    assert '  spec.objective.metric: "val_accuracy" in one, "val_loss" in other' in lines
    assert any(line.startswith("  spec.training.epochs: ") for line in lines)
    assert all(len(line) <= 100 for line in lines)

"""The runs of this machine by name: `kinase list`, `trials`, `get`, `report`, `compare`."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import kinase
from kinase.api import NASExperiment
from kinase.cli import app
from kinase.cli.runs import age
from kinase.runs import AmbiguousName, UnknownRun, find, places, record
from kinase.runs.index import state_folder
from tests.unit.client.test_search import manifest, search


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `toy` was run."""
    folder = tmp_path_factory.mktemp("toy")
    given = {
        "apiVersion": "kinase.dev/v1alpha1",
        "kind": "NASExperiment",
        **manifest(folder, budget={"trials": 3}),
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(given))
    search(folder / "toy.yaml")
    return folder


@pytest.fixture(autouse=True)
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_list(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no run of this machine was found; kinase run FILE begins one" in invoke("list")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(toy)
    for folder in (toy, toy / "runs"):
        monkeypatch.chdir(folder)
        head, line = invoke("list").splitlines()
        assert head.split() == ["NAME", "STATUS", "DONE", "METRIC", "BEST", "AGE", "FOLDER"]
        assert line.split()[:3] == ["toy", "Finished", "3/3"]
        assert line.endswith(str(toy / "runs/default/toy"))
    assert invoke("list", "-o", "name") == "toy\n"
    assert "NAMESPACE" in invoke("list", "-o", "wide")
    [found] = json.loads(invoke("list", "-o", "json"))
    assert (found["status"], found["trials"], round(found["best"], 4)) == ("finished", 3, 0.32)


def test_trials_for_other_programs(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy)
    listed = kinase.load_result("toy").trials()
    assert json.loads(invoke("trials", "toy", "-o", "json")) == listed
    read = list(csv.DictReader(io.StringIO(invoke("trials", "default/toy", "-o", "csv"))))
    assert [row["trial"] for row in read] == ["0", "1", "2", "3"]
    assert read[0]["parents"] == ""
    assert json.loads(read[0]["genotype"]) == json.loads(listed[0]["genotype"])
    head, *lines = invoke("trials", toy / "runs/default/toy").splitlines()
    assert head.split()[:4] == ["TRIAL", "KIND", "OUTCOME", "VAL"]
    assert len(lines) == 4
    assert "GENOTYPE" not in head
    assert "OPERATION" in invoke("trials", "toy", "-o", "wide")


def test_get_report_compare_and_export_by_name(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy)
    shown = invoke("get", "toy")
    assert "done in" in shown
    assert "winner" in shown
    assert shown.count(" epochs ") >= 4
    assert invoke("get", "toy", "-o", "name") == "toy\n"
    assert json.loads(invoke("get", "toy", "-o", "json"))["status"] == "finished"
    out = tmp_path / "r.html"
    assert invoke("report", "toy", "-o", out) == f"{out}\n"
    assert out.read_text().startswith("<!doctype html>")
    bad = CliRunner().invoke(app, ["get", "toy", "-o", "yaml"])
    assert "--output 'yaml' is not for a run of this machine" in bad.output
    bad = CliRunner().invoke(app, ["compare", "toy", "toy"])
    assert bad.exit_code == 2
    assert "kinase: " in bad.output
    bad = CliRunner().invoke(app, ["export", "toy", "--format", "keras"])
    assert "format 'keras' is not known" in bad.output or "final" in bad.output
    bad = CliRunner().invoke(app, ["trials", "toyy"])
    assert bad.output == "kinase: no run of this machine is called 'toyy'; there are toy\n"


def experiment(folder: Path, name: str = "one") -> NASExperiment:
    given = {"apiVersion": "kinase.dev/v1alpha1", "kind": "NASExperiment", **manifest(folder)}
    return NASExperiment.model_validate({**given, "metadata": {"name": name}})


def ran(folder: Path, name: str = "one") -> str:
    """A place that looks like a run's."""
    place = record(experiment(folder, name))
    assert place.folder is not None
    place.folder.mkdir(parents=True)
    (place.folder / "experiment.json").write_text("{}")
    return place.uri


def test_a_run_is_found_from_any_folder(tmp_path: Path) -> None:
    uri = ran(tmp_path / "a")
    here = tmp_path / "elsewhere"
    here.mkdir()
    assert find("one", here).uri == find("default/one", here).uri == uri
    assert [place.uri for place in places(here)] == [uri]
    with pytest.raises(UnknownRun, match="no run of this machine is called 'two'; there are one"):
        find("two", here)


def test_the_nearest_of_several_is_meant_or_the_folder_is_asked_for(tmp_path: Path) -> None:
    near, far = ran(tmp_path / "a"), ran(tmp_path / "b")
    assert find("one", tmp_path / "a").uri == near
    assert find("one", tmp_path / "b").uri == far
    with pytest.raises(AmbiguousName, match=r"2 runs are called 'one': .*; give the folder"):
        find("one", tmp_path)
    assert find(str(tmp_path / "b/runs/default/one"), tmp_path).uri == far


def test_a_deleted_folder_is_passed_over_and_forgotten(tmp_path: Path) -> None:
    ran(tmp_path / "a")
    os.rename(tmp_path / "a", tmp_path / "moved")
    assert places(tmp_path) == []
    assert len(list(state_folder().iterdir())) == 1
    ran(tmp_path / "b", "two")
    assert [place.name for place in places(tmp_path)] == ["two"]
    assert len(list(state_folder().iterdir())) == 1
    assert find("one", tmp_path / "moved").folder == tmp_path / "moved/runs/default/one"


@pytest.mark.parametrize("text", ["", "{", '{"uri": 3}', "[]", "x" * 100_000])
def test_a_damaged_entry_is_passed_over(tmp_path: Path, text: str) -> None:
    ran(tmp_path / "a")
    (state_folder() / "bad.json").write_text(text)
    assert [place.name for place in places(tmp_path)] == ["one"]


def test_a_state_directory_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert record(experiment(tmp_path)).name == "one"
    assert places(tmp_path) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (42, "42s"), (60, "1m"), (7200, "2h"), (2 * 86400, "2d")]
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text

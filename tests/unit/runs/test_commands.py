"""The runs of this machine by name: `kinase list`, `trials`, `get`, `report`, `compare`."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import kinase
from kinase.api import NASExperiment
from kinase.api.load import ManifestError
from kinase.api.storage import Storage
from kinase.cli import app
from kinase.cli.runs import age, as_csv, trial_columns
from kinase.cli.tables import fitted, lines
from kinase.registry import UnknownMember
from kinase.runs import (
    AmbiguousName,
    Place,
    Summary,
    UnknownRun,
    Unread,
    find,
    index,
    places,
    record,
    status,
    summaries,
    undamaged,
)
from kinase.runs.index import state_folder
from kinase.store import Store, StoreError, StoreUnavailable
from kinase.store.file import FileStore
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
    assert "no run was found on this machine; start one with kinase run FILE" in invoke("list")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(toy)
    for folder in (toy, toy / "runs"):
        monkeypatch.chdir(folder)
        head, line = invoke("list").splitlines()
        assert head.split() == ["NAME", "STATUS", "DONE", "METRIC", "BEST", "AGE", "PLACE"]
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


def test_csv_has_no_formulas() -> None:
    cells = {"=name": "=HYPERLINK(1)", "b": "@x", "c": "\tx", "d": -1.5, "e": None, "f": "a=1"}
    assert as_csv([cells]) == "'=name,b,c,d,e,f\n'=HYPERLINK(1),'@x,'\tx,-1.5,,a=1\n"
    assert as_csv([]) == "trial\n"


def test_get_report_compare_and_export_by_name(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy)
    shown = invoke("get", "toy")
    assert "done in" in shown
    assert "winner" in shown
    table = shown[shown.index("TRIAL ") :].splitlines()
    assert [line.split()[0] for line in table] == ["TRIAL", "0", "1", "2", "3"]
    assert table == invoke("trials", "toy").splitlines()
    last = invoke("get", "toy", "--trials", "1").splitlines()
    assert last[-2].split() == table[-1].split()
    assert last[-1] == "3 more trials before these; --trials 0 shows all"
    assert invoke("get", "toy", "-o", "name") == "toy\n"
    assert json.loads(invoke("get", "toy", "-o", "json"))["status"] == "finished"
    out = tmp_path / "r.html"
    assert invoke("report", "toy", "-o", out) == f"{out}\n"
    assert out.read_text().startswith("<!doctype html>")
    missing = tmp_path / "missing"
    for words in (["report", "toy"], ["init", "--data", "digits"]):
        bad = CliRunner().invoke(app, [*words, "-o", str(missing / "x.html")])
        assert bad.exit_code == 2
        wanted = f"kinase: {missing}/x.html: there is no folder {missing}; create it, or give"
        assert bad.output.splitlines()[-1].startswith(wanted)
    bad = CliRunner().invoke(app, ["report", "toy", "-o", str(tmp_path)])
    assert bad.output == f"kinase: {tmp_path} is a folder; give a file\n"
    bad = CliRunner().invoke(app, ["get", "toy", "-o", "yaml"])
    assert "--output 'yaml' is not for a run of this machine" in bad.output
    bad = CliRunner().invoke(app, ["compare", "toy", "toy"])
    assert bad.exit_code == 2
    assert "kinase: " in bad.output
    bad = CliRunner().invoke(app, ["export", "toy", "--format", "keras"])
    assert "format 'keras' is not known" in bad.output or "final" in bad.output
    bad = CliRunner().invoke(app, ["trials", "toyy"])
    assert bad.output == "kinase: no run on this machine is called 'toyy'; there are toy\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "task.json is missing: kinase run with the manifest of this run writes it again"),
        ("{", "task.json is damaged: restore or delete it; kinase run with the manifest"),
    ],
)
def test_a_description_that_is_lost_comes_with_the_next_run(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, message: str
) -> None:
    folder = tmp_path / "runs/default/toy"
    shutil.copytree(toy / "runs/default/toy", folder)
    given = yaml.safe_load((toy / "toy.yaml").read_text())
    given["spec"]["storage"] = {"uri": f"file://{tmp_path}/runs"}
    monkeypatch.chdir(tmp_path)
    (folder / "task.json").unlink()
    if text is not None:
        (folder / "task.json").write_text(text)
    bad = CliRunner().invoke(app, ["get", str(folder)])
    assert bad.exit_code == 2
    assert message in bad.output
    assert bad.output.count("\n") == 1
    (folder / "task.json").unlink(missing_ok=True)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(given))
    before = sorted((folder / "journal").iterdir())
    assert invoke("run", "toy.yaml", "--trainer", "tests.fake_trainer")
    assert "done in" in invoke("get", str(folder))
    assert sorted((folder / "journal").iterdir()) == before


def test_a_damaged_run_is_named(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("toy", "good"):
        shutil.copytree(toy / "runs/default/toy", tmp_path / "runs/default" / name)
    bad = tmp_path / "runs/default/toy"
    last = max((bad / "journal").iterdir())
    entry = json.dumps({"type": "finished", "winner": 99})
    (bad / f"journal/{int(last.name[:8]) + 1:08}.jsonl").write_text(entry)
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(app, ["list", "-o", "name"])
    assert (listed.exit_code, listed.stdout) == (0, "good\n")
    assert listed.stderr.startswith(f"warning: file://{bad}")
    for command in ("get", "report"):
        result = CliRunner().invoke(app, [command, "toy"])
        assert (result.exit_code, result.output.count("\n")) == (2, 1), command
        assert result.output.startswith(f"kinase: file://{bad}")


@pytest.mark.parametrize("error", [KeyError(7), TypeError("x\ny"), ZeroDivisionError()])
def test_any_contradiction_names_the_run(error: Exception) -> None:
    damaged = pytest.raises(StoreError, match=r"^file:///a: its journal is damaged: \w+:")
    with damaged as caught, undamaged("file:///a"):
        raise error
    assert "\n" not in str(caught.value)
    for clear in (ManifestError([]), StoreError("x"), UnknownMember("x")):
        with pytest.raises(type(clear)) as passed, undamaged("file:///a"):
            raise clear
        assert passed.value is clear


def trial_row(number: int, **changes: Any) -> dict[str, Any]:
    """A trial as `kinase.runs.rows` gives it, of the task Classification."""
    return {
        "trial": number,
        "kind": "Baseline",
        "outcome": "Succeeded",
        "state": "Ended",
        "rung": 0,
        "val_accuracy": 0.91,
        "val_auc": 0.99,
        "val_balanced_accuracy": 0.9,
        "val_f1": 0.9,
        "val_loss": 0.3,
        "params": 123_456,
        "macs": 1_234_567,
        "epochs": 12,
        "samples": 12_000,
        "device_seconds": 12.345,
        "ended": 30.0,
        "fidelity": "12 epochs",
        "parents": "3",
        "operation": "widen",
        "learning_rate_factor": 1.0,
        "inherited": None,
        "message": None,
        "key": "0" * 16,
        "genotype": "{}",
        **changes,
    }


SHORT = ["TRIAL", "KIND", "OUTCOME", "VAL ACCURACY", "PARAMS", "EPOCHS", "SECONDS"]
FULL = [*SHORT[:4], "VAL AUC", "VAL BALANCED ACCURACY", "VAL F1", "VAL LOSS", *SHORT[4:]]


@pytest.mark.parametrize(
    ("objectives", "width", "titles"),
    [
        (["val_accuracy"], 80, SHORT),
        (["val_accuracy"], 140, FULL),
        (["val_accuracy"], None, FULL),
        (
            ["val_balanced_accuracy"],
            80,
            [*SHORT[:3], "VAL BALANCED ACCURACY", *SHORT[4:5], "SECONDS"],
        ),
        (["val_accuracy", "val_loss"], 80, [*SHORT[:4], "VAL LOSS", "PARAMS", "SECONDS"]),
        (["val_accuracy"], 20, ["TRIAL", "OUTCOME", "VAL ACCURACY"]),
    ],
)
def test_the_table_of_trials_fits_the_terminal(
    objectives: list[str], width: int | None, titles: list[str]
) -> None:
    columns = fitted(trial_columns([trial_row(7), trial_row(8)], objectives, wide=False), width)
    assert [column.title for column in columns] == titles
    if width is not None and width > 20:
        assert all(len(line) <= width for line in lines(columns))


def test_why_a_trial_failed_is_shown_where_there_is_room() -> None:
    rows = [
        trial_row(7),
        trial_row(8, message="the worker process exited with code 3 (3 attempts)"),
    ]
    narrow, wide = (trial_columns(rows, ["val_accuracy"], wide=w) for w in (False, True))
    assert "MESSAGE" not in [column.title for column in fitted(narrow, 80)]
    last = fitted(narrow, 160)[-1]
    assert (last.title, last.cells[0]) == ("MESSAGE", "")
    assert last.cells[1].startswith("the worker process exit")
    assert last.cells[1].endswith("...")
    assert [column.title for column in wide][-1] == "MESSAGE"
    assert not {"KEY", "GENOTYPE", "SAMPLES"} & {column.title for column in wide}


def test_a_lowered_limit_is_not_a_share(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toy)
    kept = toy / "runs/default/toy/local/manifest.json"
    text = kept.read_text()
    try:
        for trials, shown in ((1, "3 trials, limit 1"), (3, "3/3 trials"), (5, "3/5 trials")):
            spec = json.loads(text)
            spec["budget"] = {"trials": trials}
            kept.write_text(json.dumps(spec))
            [found] = json.loads(invoke("list", "-o", "json"))
            assert found["progress"] == shown
    finally:
        kept.write_text(text)


def far(folder: Path, name: str) -> Place:
    """A run that the index knows, in a bucket."""
    given = {"apiVersion": "kinase.dev/v1alpha1", "kind": "NASExperiment", **manifest(folder)}
    made = NASExperiment.model_validate({**given, "metadata": {"name": name}})
    storage = Storage(uri="s3://bucket/there", endpoint="http://localhost:1")
    spec = made.spec.model_copy(update={"storage": storage})
    return record(made.model_copy(update={"spec": spec}))


def test_runs_in_buckets_are_read_and_those_out_of_reach_are_said(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, gone, slow = (far(tmp_path, name) for name in ("near", "gone", "slow"))
    silence = threading.Event()

    def opened(uri: str, *_: Any) -> Store:
        if uri == slow.uri:
            silence.wait(20)
        if uri == gone.uri:
            raise StoreUnavailable(f"{uri} cannot be reached")
        return FileStore(toy / "runs/default/toy")

    monkeypatch.setattr(index, "open_uri", opened)
    monkeypatch.chdir(tmp_path)
    try:
        found = summaries([near, gone, slow], patience=0.5)
    finally:
        silence.set()
    assert isinstance(found[0], Summary)
    assert (found[0].done, found[0].status) == (3, "finished")
    assert [each.why for each in found[1:] if isinstance(each, Unread)] == [
        f"{gone.uri} cannot be reached",
        f"{slow.uri}: the store did not answer within 0.5 s",
    ]
    result = CliRunner().invoke(app, ["list"])
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert rows["near"].split()[1:3] == ["Finished", "3/3"]
    assert rows["gone"].split()[1:4] == ["Out", "of", "reach"]
    assert f"warning: {gone.uri} cannot be reached" in result.stderr


def test_a_run_that_cannot_be_read_and_those_that_have_no_turn_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, slow, queued = (far(tmp_path, name) for name in ("broken", "slow", "queued"))
    silence = threading.Event()

    def opened(uri: str, *_: Any) -> Store:
        if uri == slow.uri:
            silence.wait(20)
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(index, "open_uri", opened)
    monkeypatch.setattr(status, "AT_ONCE", 1)
    try:
        found = summaries([broken, slow, queued], patience=0.2)
    finally:
        silence.set()
    assert [each.why for each in found if isinstance(each, Unread)] == [
        f"{broken.uri}: RuntimeError: two lines",
        f"{slow.uri}: the store did not answer within 0.2 s",
        f"{queued.uri}: was not read within 0.2 s",
    ]


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
    with pytest.raises(UnknownRun, match="no run on this machine is called 'two'; there are one"):
        find("two", here)


def test_the_nearest_of_several_is_meant_or_the_folder_is_asked_for(tmp_path: Path) -> None:
    near, far = ran(tmp_path / "a"), ran(tmp_path / "b")
    assert find("one", tmp_path / "a").uri == near
    assert find("one", tmp_path / "b").uri == far
    with pytest.raises(AmbiguousName, match=r"2 runs are called 'one': .*; give the folder"):
        find("one", tmp_path)
    assert find(str(tmp_path / "b/runs/default/one"), tmp_path).uri == far


def test_two_namespaces_of_one_folder_are_told_apart(tmp_path: Path) -> None:
    for namespace in ("a", "b"):
        folder = tmp_path / "runs" / namespace / "one"
        folder.mkdir(parents=True)
        (folder / "experiment.json").write_text("{}")
    with pytest.raises(AmbiguousName, match=r"2 runs in .*/runs are called 'one': a/one, b/one;"):
        find("one", tmp_path)
    assert find("b/one", tmp_path).uri == f"file://{folder}"


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

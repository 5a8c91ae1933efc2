"""`kinase.search` with a trainer that trains nothing: callbacks, handles, results."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

import kinase
from kinase.api.strategy import Strategy
from kinase.console import Progress, _print, summary
from kinase.report.gather import gather
from kinase.store import StoreError

TRAINER = "tests.fake_trainer"
ROOT = Path(__file__).parents[3]


def manifest(tmp_path: Path, dataset: str = "ok", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "toy"},
        "spec": {
            "task": {"dataset": dataset},
            "training": {"epochs": 2},
            "space": {"type": "Chain", "chain": {"maxDepth": 3}},
            "strategy": {"type": "Random"},
            "budget": {"trials": 4},
            "finalists": {"count": 1},
            "storage": {"uri": f"file://{tmp_path}/runs"},
            **spec,
        },
    }


class Heard(kinase.Callback):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def on_start(self, search: kinase.Search) -> None:
        self.calls.append(("start", search.status))

    def on_epoch(
        self, search: kinase.Search, trial: int, epoch: int, metrics: dict[str, float]
    ) -> None:
        self.calls.append(("epoch", (trial, epoch, sorted(metrics))))

    def on_trial(self, search: kinase.Search, trial: dict[str, Any]) -> None:
        self.calls.append(("trial", trial["trial"]))

    def on_end(self, search: kinase.Search, result: kinase.Result) -> None:
        self.calls.append(("end", result.status))


def search(given: Any, **options: Any) -> Any:
    return kinase.search(given, trainer=TRAINER, **{"progress": False, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[kinase.Result, Heard]:
    heard = Heard()
    return search(manifest(tmp_path_factory.mktemp("done")), callbacks=heard), heard


def test_callbacks_hear_of_everything_in_order(finished: tuple[kinase.Result, Heard]) -> None:
    result, heard = finished
    assert heard.calls[0] == ("start", "running")
    assert heard.calls[-1] == ("end", "finished")
    assert [n for what, n in heard.calls if what == "trial"] == [0, 1, 2, 3, 4]
    epochs = [each for what, each in heard.calls if what == "epoch"]
    assert epochs[:2] == [(0, epoch, ["val_accuracy", "val_loss"]) for epoch in (1, 2)]
    assert result.callback_errors == ()


def test_a_result_has_rows_for_a_data_frame(finished: tuple[kinase.Result, Heard]) -> None:
    result, _ = finished
    rows = result.trials()
    assert [row["trial"] for row in rows] == [0, 1, 2, 3, 4]
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    plain = (str, int, float, type(None))
    assert all(isinstance(value, plain) for row in rows for value in row.values())
    assert rows[4]["kind"] == "Final"
    assert rows[0]["epochs"] == 2
    assert rows[0]["params"] > 0
    assert '"layers":[' in rows[0]["genotype"]


def test_the_best_is_the_winner(finished: tuple[kinase.Result, Heard]) -> None:
    result, _ = finished
    best = result.best
    assert best is not None
    assert (best.final, best.trial, best.test) == (True, 4, {"test_accuracy": 0.5})
    row = result.trials()[4]
    assert best.metrics == {name: row[name] for name in ("val_accuracy", "val_loss")}
    assert best.parameters == row["params"]
    assert best.cost.epochs == 2
    assert best.genotype["layers"]


def test_a_result_says_what_it_is(finished: tuple[kinase.Result, Heard], tmp_path: Path) -> None:
    result, _ = finished
    assert result.status == "finished"
    assert result.reason == "4 trials were run"
    assert result.cost.epochs == 5 * 2
    assert "'toy' finished, 5 trials, best trial 4" in repr(result)
    assert "4 trials were run" in result._repr_html_()
    assert result.report(tmp_path / "r.html") == tmp_path / "r.html"
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    folder = result.folder
    assert folder is not None
    assert result.report() == folder / "report.html"


def test_a_result_is_found_again(
    finished: tuple[kinase.Result, Heard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = finished
    assert result.folder is not None
    monkeypatch.chdir(result.folder.parents[2])
    for given in ("toy", "default/toy", result.folder, result.uri):
        assert kinase.load_result(given).trials() == result.trials()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        StoreError, match=r"no run on this machine is called 'toyy'; there are .*toy"
    ):
        kinase.load_result("toyy")


def test_the_same_call_goes_on_with_a_larger_budget(tmp_path: Path) -> None:
    first = search(manifest(tmp_path, budget={"trials": 2}))
    assert len(first.trials()) == 3
    again = search(manifest(tmp_path, budget={"trials": 2}), trials=3)
    assert sum(row["kind"] != "Final" for row in again.trials()) == 3
    fresh = search(manifest(tmp_path, budget={"trials": 2}), fresh=True)
    assert len(fresh.trials()) == 3
    assert (tmp_path / "runs/default/toy.1").is_dir()


def test_an_exception_of_a_callback_is_reported_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(search: kinase.Search, trial: dict[str, Any]) -> None:
        raise ZeroDivisionError("mine")

    heard = Heard()
    with caplog.at_level(logging.ERROR, "kinase"):
        result = search(manifest(tmp_path), callbacks=[broken, heard])
    assert [str(error) for error in result.callback_errors] == ["mine"] * 5
    assert "the callback broken failed in on_trial; the search continues" in caplog.text
    assert "ZeroDivisionError: mine" in caplog.text
    assert ("end", "finished") in heard.calls


def test_a_callback_stops_the_search(tmp_path: Path) -> None:
    def enough(search: kinase.Search, trial: dict[str, Any]) -> None:
        if trial["trial"] == 1:
            search.stop()

    given = manifest(tmp_path, budget={"trials": 50})
    result = search(given, callbacks=enough)
    assert result.status == "interrupted"
    best = result.best
    assert best is not None
    assert not best.final
    with pytest.raises(LookupError, match="toy is interrupted and has no winner; it has one when"):
        result.load()
    assert len(result.trials()) < 10
    shown = on_a_terminal(result)
    after = shown[shown.rindex("budget") :]  # the table itself is cleared
    assert after.count("  val_accuracy 0.") >= 2
    assert "interrupted; resume it with the same command; 00:" in after
    assert "best so far  trial 0" in after
    assert search(given, trials=3).status == "finished"


def on_a_terminal(result: kinase.Result) -> str:
    """What an interrupted run leaves on a terminal."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with Progress(console) as progress:
        progress.say("starting 1 worker ...")
        progress.started(result._record)
    summary(console, result._record, gather(result._record))
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue())
    assert plain.index("starting 1 worker") < plain.index("toy: Random over")
    return plain


def test_names_and_paths_are_not_markup(tmp_path: Path) -> None:
    folder = tmp_path / "runs[test]"
    given = manifest(folder, budget={"trials": 1})
    result = search(given)
    data = gather(result._record)
    trials = tuple(replace(trial, label="[/b] x") for trial in data.trials)
    text = io.StringIO()
    summary(Console(file=text, width=400), result._record, replace(data, trials=trials))
    assert "[/b] x  val" in text.getvalue()
    assert text.getvalue().count("runs[test]/runs/default/toy") == 3  # model, report, Load it


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": "abc"}, "trials: 'abc' is not a whole number"),
        ({"trials": 0}, "trials: 0 is too small; use at least 1"),
        ({"parallelism": 1.5}, "parallelism: 1.5 is not a whole number"),
        ({"device": "tpu"}, "device: 'tpu' "),
        ({"out": ""}, "out: is ''; give a folder or a URI"),
        ({"out": "a\0b"}, "out: is 'a\\x00b'; give a folder or a URI"),
        ({"out": "http://x"}, "out: 'http://x' does not have the form of "),
    ],
)
def test_a_bad_argument_is_named_with_its_value(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kinase.ManifestError) as caught:
        search(manifest(tmp_path), **options)
    wanted = f"manifest: with the arguments of kinase.search: {message}"
    assert str(caught.value).startswith(wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": 5}, "out is 5; use a folder or a URI"),
        ({"out": b"runs"}, "out is b'runs'; use a folder or a URI"),
        ({"callbacks": None}, "callbacks is None; use a kinase.Callback, a function"),
        ({"callbacks": 5}, "callbacks is 5; use a kinase.Callback, a function"),
    ],
)
def test_an_argument_of_a_wrong_type(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        search(manifest(tmp_path), **options)


def test_a_trainer_that_a_command_replaces_is_refused(tmp_path: Path) -> None:
    given = manifest(tmp_path, trialTemplate={"command": ["true"]})
    with pytest.raises(kinase.ManifestError, match=r"trialTemplate\.command: is set, so trainer="):
        kinase.search(given, trainer="nope")


def test_a_number_of_too_many_digits(tmp_path: Path) -> None:
    for task in ({"dataset": 10**5000}, {"dataset": "digits", "resolution": 10**5000}):
        with pytest.raises(kinase.ManifestError, match="a number of too many digits"):
            kinase.search({"spec": {**manifest(tmp_path)["spec"], "task": task}})


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("s3://", "'s3://' is not the URI of a run; use file://FOLDER or s3://BUCKET/"),
        ("http://x", "'http://x': the scheme http:// is not supported; use file://FOLDER or"),
        ("gs://b/x", "'gs://b/x': the scheme gs:// is not supported; use file://FOLDER or"),
        ("file://a\0b", "'file://a\\x00b' is not the URI of a run"),
        ("x" * 5000, "no run on this machine is called 'xxx"),
        ("a/" + "x" * 5000, "no run on this machine is called 'a/xxx"),
    ],
)
def test_what_names_no_run(run: str, message: str) -> None:
    with pytest.raises(StoreError) as caught:
        kinase.load_result(run)
    assert str(caught.value).startswith(message)


def test_a_callback_cannot_wait_for_its_search(tmp_path: Path) -> None:
    def waits(search: kinase.Search, trial: dict[str, Any]) -> None:
        search.wait()

    result = search(manifest(tmp_path, budget={"trials": 1}), callbacks=waits)
    assert result.status == "finished"
    assert {type(error) for error in result.callback_errors} == {RuntimeError}
    assert "the callback cannot wait for its end; use search.stop()" in str(
        result.callback_errors[0]
    )


def test_a_custom_member_is_shown_by_its_own_name() -> None:
    custom = Strategy.model_validate({"type": "Custom", "custom": {"name": "threshold"}})
    assert (custom.shown, custom.kind) == ("threshold", "Custom")
    assert Strategy.model_validate({"type": "Random"}).shown == "Random"


def test_without_waiting(tmp_path: Path) -> None:
    given = manifest(tmp_path, "sleep", training={"epochs": 40}, budget={"trials": 50})
    begun = threading.Event()
    handle = search(given, wait=False, callbacks=lambda search, trial: begun.set())
    assert begun.wait(60)
    assert handle.status == "running"
    with pytest.raises(TimeoutError, match="toy has not ended within 0 s; it continues"):
        handle.wait(0)
    assert handle.result().status == "running"
    assert handle.result().best is not None
    assert "running" in repr(handle)
    assert "<progress" in handle._repr_html_()
    with pytest.raises(StoreError, match=f"process {os.getpid()} already runs this experiment"):
        search(given)
    handle.stop()
    assert handle.wait(60).status == "interrupted"
    assert handle.status == "interrupted"


def test_without_waiting_an_error_is_raised_by_wait(tmp_path: Path) -> None:
    handle = search(manifest(tmp_path, "absent"), wait=False)
    with pytest.raises(Exception, match="'absent' does not exist"):
        handle.wait(60)
    assert handle.status == "error"


def test_bad_manifests_are_refused_at_once(tmp_path: Path) -> None:
    given = manifest(tmp_path)
    given["spec"]["budgett"] = {}
    with pytest.raises(
        kinase.ManifestError, match=r"^manifest: spec.budgett: unknown field 'budgett'"
    ):
        search(given)
    with pytest.raises(kinase.ManifestError, match="parallelism 9 is above trials 4"):
        search(manifest(tmp_path), parallelism=9)
    with pytest.raises(kinase.ManifestError, match=r"metadata.name: 'A_b' does not have the form"):
        search(manifest(tmp_path), name="A_b")
    with pytest.raises(kinase.ManifestError, match=r"spec.suspend: is true"):
        search(manifest(tmp_path, suspend=True))
    with pytest.raises(TypeError, match="manifest is int; use a path"):
        search(3)
    with pytest.raises(TypeError, match=r"callbacks has <class .*use an instance"):
        search(manifest(tmp_path), callbacks=Heard)


def test_forms_of_a_manifest(tmp_path: Path) -> None:
    import yaml

    from kinase.client.manifest import read

    whole = {"apiVersion": "kinase.dev/v1alpha1", "kind": "NASExperiment", **manifest(tmp_path)}
    text = yaml.safe_dump(whole)
    (tmp_path / "m.yaml").write_text(text)
    first = read(manifest(tmp_path), None, {}, "fake")
    for form in (whole, text, tmp_path / "m.yaml", str(tmp_path / "m.yaml"), first):
        assert read(form, None, {}, "fake") == first
    changed = read(first, "other", {"storage.uri": tmp_path / "x", "budget.trials": 9}, "fake")
    assert changed.metadata.name == "other"
    assert changed.spec.storage.uri == f"file://{tmp_path}/x"
    assert changed.spec.budget.trials == 9


SCRIPT = """
import kinase

print("the script runs")
result = kinase.search({given!r}, trainer="mine.trainer")
print(result.best.trial, len(result.trials()))
"""


def script(tmp_path: Path, given: dict[str, Any]) -> subprocess.Popen[str]:
    (tmp_path / "mine").mkdir()  # workers find what lies in the script's folder
    shutil.copy(ROOT / "tests/fake_trainer.py", tmp_path / "mine/trainer.py")
    (tmp_path / "script.py").write_text(SCRIPT.format(given=given))
    return subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    given = manifest(tmp_path, budget={"trials": 4, "parallelism": 2})
    out, error = script(tmp_path, given).communicate(timeout=60)
    assert out == "the script runs\n4 5\n", error
    assert "starting 2 workers ..." in error


def test_ctrl_c_in_a_script_keeps_everything(tmp_path: Path) -> None:
    given = manifest(tmp_path, "sleep", training={"epochs": 40}, budget={"trials": 50})
    process = script(tmp_path, given)
    journal, deadline = tmp_path / "runs/default/toy/journal", time.monotonic() + 60
    while not list(journal.glob("*1.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert out == "the script runs\n"
    assert "KeyboardInterrupt" in error
    assert kinase.load_result(tmp_path / "runs/default/toy").status == "interrupted"


def test_importing_kinase_loads_neither_torch_nor_the_client() -> None:
    code = (
        "import sys, kinase; assert not {'torch', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "kinase.search, kinase.load_result\n"
        "assert not {'torch', 'plotly', 'IPython', 'boto3'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_values_in_html_are_escaped(finished: tuple[kinase.Result, Heard]) -> None:
    from kinase.client import html

    assert html.note("<b>&") == "<div>&lt;b&gt;&amp;</div>"
    loop = finished[0]._record
    assert math.isfinite(loop.elapsed)
    assert html.progress(loop, {}).count("<tr>") == 4 + 1 + 5


@pytest.mark.parametrize(("terminal", "wrapped"), [(True, True), (False, False)])
def test_a_terminal_wraps_between_words(terminal: bool, wrapped: bool) -> None:
    out = io.StringIO()
    words = "note: there will be no verdict that the strategy is better than random search " * 2
    shown = Console(file=out, width=80, force_terminal=terminal, color_system=None)
    _print(shown, Text(words.strip()))
    lines = out.getvalue().splitlines()
    assert " ".join(line.strip() for line in lines) == words.strip()
    assert (len(lines) > 1) == wrapped

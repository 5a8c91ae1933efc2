"""The table of the docs, the code, the dashboards and the alerts know the same metrics."""

from __future__ import annotations

import gzip
import re
import time
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kinase.api import names
from kinase.api.status import MAX_RUNGS, Phase
from kinase.api.trial import Cost, Kind, Outcome
from kinase.experiment.entries import Rested
from kinase.experiment.trial_record import TrialRecord
from kinase.history import WHOLE
from kinase.store.memory import MemoryStore
from kinase_controller.metrics import MeteredStore
from kinase_controller.metrics import Metrics as ControllerMetrics
from kinase_operator.metrics import Metrics as OperatorMetrics
from kinase_operator.views import Experiment, Pod, Trial
from tests.watch import dashboards
from tests.watch.prometheus import ALERTS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/metrics.md", *sorted((ROOT / "docs/runbooks").glob("*.md"))]
NAME = r"\b(?:kinase|process)_[a-z_]+[a-z]\b"
Known = dict[str, tuple[str, tuple[str, ...]]]
"""Type and labels of a metric, by its name."""


# -- what the code exports ---------------------------------------------------------------------


def experiment(number: int = 0, **status: Any) -> Experiment:
    """An experiment whose status has every field that becomes a series."""
    limits = ("trials", "epochs", "deviceHours", "duration")
    condition = {"status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"}
    incumbent = {"trial": 3, "value": 0.9812345678 - number * 1.37e-5}
    return Experiment.of(
        {
            "metadata": {
                "namespace": f"team-{number % 7}",
                "name": f"search-{number:04d}",
                "uid": f"uid-{number}",
                "resourceVersion": "1",
            },
            "spec": {
                "task": {"dataset": "cifar10"},
                "space": {"type": "Cell"},
                "strategy": {"type": "Evolution"},
                "estimation": {"type": "LowerFidelity"},
                "objective": {"metric": "val_accuracy", "goal": "maximize"},
                "budget": dict.fromkeys(limits[:3], 90 + number) | {"duration": f"{90 + number}s"},
            },
            "status": {
                "phase": "Searching",
                "startTime": f"2030-01-01T{number // 60:02d}:{number % 60:02d}:00Z",
                "conditions": [
                    {"type": "Ready", "reason": "ControllerRunning", **condition},
                    {"type": "Progressing", "reason": "Searching", **condition},
                    {"type": "Suspended", "reason": "NotSuspended", **condition},
                ],
                "trials": {"succeeded": 90, "infeasible": 3, "failed": 2, "stopped": 1},
                "best": incumbent,
                "control": incumbent,
                "budget": [
                    {"name": n, "left": 30.0, "total": 90 + number, "spent": 60} for n in limits
                ],
                "cost": {"deviceSeconds": 12345.678 + number * 7.131, "epochs": 960 + number},
                **status,
            },
        }
    )


def laddered(number: int = 0) -> Experiment:
    """One whose trials are trained in rungs."""
    return experiment(
        number,
        trials={"succeeded": 4, "paused": 12, "failed": 2, "stopped": 1},
        best={"trial": 3, "value": 0.98, "rung": 2},
        rungs=[
            {"rung": 0, "until": 1, "reached": 27, "paused": 9, "promoted": 9, "epochs": 27},
            {"rung": 1, "until": 3, "reached": 9, "paused": 3, "promoted": 3, "epochs": 18},
            {"rung": 2, "until": 9, "reached": 3, "stopped": 1, "epochs": 20},
        ],
    )


def finished(number: int = 0) -> Experiment:
    return experiment(number, phase="Succeeded", completionTime="2030-01-01T12:00:00Z")


def trial(number: int, **status: Any) -> Trial:
    return Trial.of(
        {
            "metadata": {
                "namespace": "team-0",
                "name": f"search-0000-{number:05d}",
                "uid": f"trial-{number}",
                "resourceVersion": "1",
                "ownerReferences": [{"uid": "uid-0", "controller": True}],
            },
            "spec": {"experiment": "search-0000", "number": number, "kind": "Search", "job": "{}"},
            "status": status,
        }
    )


def pod(number: int, phase: str = "Running") -> Pod:
    """The pod of a trial's first attempt."""
    name = f"search-0000-{number:05d}"
    began = {"running": {"startedAt": "2030-01-01T00:00:00Z"}}
    container = {"name": "kinase", "state": began if phase == "Running" else {"waiting": {}}}
    return Pod.of(
        {
            "metadata": {
                "namespace": "team-0",
                "name": f"{name}-1-abcde",
                "uid": f"pod-{number}",
                "resourceVersion": "1",
                "labels": {names.EXPERIMENT_UID: "uid-0", names.JOB_TRIAL: name},
            },
            "spec": {},
            "status": {"phase": phase, "containerStatuses": [container]},
        }
    )


ENDED = {"attempt": 1, "phase": "Succeeded", "completionTime": "2030-01-01T01:00:00Z"}


def operator() -> OperatorMetrics:
    metrics = OperatorMetrics()
    metrics.wrote("jobs", "create")
    trials = [trial(1), trial(2), trial(3), trial(4, **ENDED)]
    metrics.see([experiment(0), finished(1), laddered(2)], trials, [pod(1), pod(2, "Pending")])
    return metrics


def record(number: int, seconds: float, outcome: Outcome = Outcome.SUCCEEDED) -> TrialRecord:
    found = TrialRecord(number, Kind.SEARCH, {}, "", WHOLE, 0, {}, (), "", outcome=outcome)
    found.cost = Cost(epochs=1, device_seconds=seconds)
    return found


class Loop:
    """As much of a loop as is measured."""

    class journal:
        length = 12

    elapsed = 100.0
    best: TrialRecord | None = None


def controller() -> ControllerMetrics:
    metrics = ControllerMetrics("team-0", "search-0000")
    metrics.replayed([record(0, 12.5), record(1, 7.5, Outcome.FAILED)])
    metrics.queued(3)
    metrics.measure(Loop())  # type: ignore[arg-type]
    return metrics


def known(page: bytes) -> Known:
    found: Known = {}
    for family in text_string_to_metric_families(page.decode()):
        labels = {name for sample in family.samples for name in sample.labels}
        ending = "_total" if family.type == "counter" else ""
        found[f"{family.name}{ending}"] = family.type, tuple(sorted(labels - {"le"}))
    return found


@pytest.fixture(scope="module")
def exported() -> dict[str, Known]:
    return {"operator": known(operator().page()), "controller": known(controller().page())}


# -- what the documents know -------------------------------------------------------------------


def table() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Name, type, labels and source of each line of the table."""
    line = re.compile(r"\| `(\w+)` \| (\w+) \| (.*?) ?\| .* \| (\w+) \|")
    for text in PAGES[0].read_text().splitlines():
        if found := line.fullmatch(text):
            labels = tuple(sorted(re.findall(r"`(\w+)`", found[3])))
            yield found[1], found[2], labels, found[4]


def without_endings(names: set[str]) -> set[str]:
    """Histograms by the name of the whole."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def in_queries() -> dict[str, set[str]]:
    """Metrics that queries name, by where."""
    found = {
        f"dashboard {name}": {
            metric
            for _, target in dashboards.targets(dashboards.load(name))
            for metric in re.findall(NAME, target["expr"])
        }
        for name in dashboards.NAMES
    }
    for name in dashboards.NAMES:
        text = str(dashboards.load(name)["templating"])
        found[f"dashboard {name}"] |= set(re.findall(NAME, text))
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            texts = [rule["expr"], *rule["annotations"].values()]
            found[rule["alert"]] = {m for t in texts for m in re.findall(NAME, t)}
    return {where: without_endings(names) for where, names in found.items()}


# -- the tests -----------------------------------------------------------------------------------


def test_the_table_is_what_is_exported(exported: dict[str, Known]) -> None:
    for source, metrics in exported.items():
        listed = {n: (t, labels) for n, t, labels, where in table() if where in (source, "both")}
        assert listed == metrics


def test_names_keep_to_the_conventions(exported: dict[str, Known]) -> None:
    for metrics in exported.values():
        for name, (kind, _) in metrics.items():
            assert name.startswith(("kinase_", "process_"))
            assert name.endswith("_total") == (kind == "counter"), name
            assert kind != "histogram" or name.endswith("_seconds"), name
            assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent)\b", name)


def test_no_metric_has_two_sources(exported: dict[str, Known]) -> None:
    both = set(exported["operator"]) & set(exported["controller"])
    assert {n for n in both if not n.startswith("process_")} == {"kinase_build_info"}


def test_dashboards_and_alerts_ask_for_nothing_else(exported: dict[str, Known]) -> None:
    there = {name for metrics in exported.values() for name in metrics}
    asked = in_queries()
    assert {w: names - there for w, names in asked.items() if names - there} == {}
    assert all(asked.values())


def test_most_of_what_is_exported_is_looked_at(exported: dict[str, Known]) -> None:
    """A metric that no panel and no alert uses is there for a reason."""
    there = {name for metrics in exported.values() for name in metrics}
    used = set().union(*in_queries().values())
    assert there - used == {"process_virtual_memory_bytes", "process_open_fds", "process_max_fds"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_pages_name_no_other_metric(page: Path, exported: dict[str, Known]) -> None:
    there = {name for metrics in exported.values() for name in metrics}
    text = re.sub(r"`kinase_experiment_(\.\*|\.\.\.)`", "", page.read_text())
    text = re.sub(r"kinase_operator manifests", "", text)
    assert without_endings(set(re.findall(NAME, text))) - there == set()


def samples(page: bytes) -> list[str]:
    return [line for line in page.decode().splitlines() if not line.startswith("#")]


def test_series_of_an_experiment_are_bounded() -> None:
    """At most those that the docs state, however long the search."""
    metrics = OperatorMetrics()
    none = len(samples(metrics.page()))
    counts = []
    for view in (experiment(0), finished(0)):
        metrics.see([view], [trial(n) for n in range(500)], [])
        counts.append(len(samples(metrics.page())) - none)
    assert counts == [20, 16]
    text = PAGES[0].read_text()
    assert "at most 20," in text
    metrics.see([laddered()], [], [])
    assert len(samples(metrics.page())) - none == 20 + 1 + 5 * 3
    assert f"5 for each rung (at most {MAX_RUNGS} rungs)" in text


def test_series_of_a_controller_are_bounded() -> None:
    metrics = ControllerMetrics("ns", "toy")
    metrics.replayed([])
    metrics.measure(Loop())  # type: ignore[arg-type]
    first = len(samples(metrics.page()))
    for number in range(300):
        metrics.told(record(number, number * 10.0, list(Outcome)[number % len(Outcome)]))
        metrics.queued(number)
    assert len(samples(metrics.page())) == first == 111
    assert "from its controller | 111 |" in PAGES[0].read_text()


def test_a_page_of_a_thousand_experiments() -> None:
    """What the docs state of its size and time."""
    metrics = OperatorMetrics()
    metrics.see([experiment(n) for n in range(1000)], [], [])
    page = metrics.page()
    # of this thread alone, and without the garbage collector, which reads the heap of all tests
    seconds = min(timeit.repeat(metrics.page, timer=time.thread_time, number=1, repeat=2))
    print(f"{len(page)} bytes, {len(gzip.compress(page, 6))} compressed, {seconds:.2f} s")
    assert 20_000 < len(samples(page)) < 20_200
    assert len(page) < 2.5e6
    assert len(gzip.compress(page, 6)) < 0.2e6
    assert seconds < 2


# -- what they say -------------------------------------------------------------------------------


def value(page: bytes, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    return None


def test_phases_are_counted() -> None:
    page = operator().page()
    assert value(page, "kinase_experiments", phase="Searching") == 2
    assert value(page, "kinase_experiments", phase="Succeeded") == 1
    assert value(page, "kinase_experiments", phase="Failed") == 0
    counts = {"Running": 1, "Pending": 2, "Succeeded": 1, "Failed": 0}
    assert {p: value(page, "kinase_trials", phase=p) for p in counts} == counts
    under_way = "kinase_experiment_trials_under_way"
    assert value(page, under_way, experiment="search-0000", phase="Running") == 1
    assert value(page, under_way, experiment="search-0000", phase="Pending") == 2
    assert value(page, under_way, experiment="search-0001") is None


def test_a_status_of_an_earlier_attempt_is_not_counted() -> None:
    metrics = OperatorMetrics()
    metrics.see([experiment(0)], [trial(1, **{**ENDED, "attempt": 0})], [])
    assert value(metrics.page(), "kinase_trials", phase="Pending") == 1


def test_an_experiment_that_has_no_status_yet() -> None:
    metrics = OperatorMetrics()
    bare = {"namespace": "ns", "name": "new", "uid": "u", "resourceVersion": "1"}
    metrics.see([Experiment.of({"metadata": bare, "spec": {}})], [], [])
    assert value(metrics.page(), "kinase_experiment_phase", phase=Phase.PENDING) == 1
    assert value(metrics.page(), "kinase_experiment_best_objective") is None


def test_one_that_has_gone_leaves_nothing() -> None:
    metrics = operator()
    metrics.see([], [], [])
    assert b"search-0000" not in metrics.page()


def test_values_are_the_statuss() -> None:
    page = operator().page()
    who = {"namespace": "team-0", "experiment": "search-0000"}
    assert value(page, "kinase_experiment_best_objective", **who) == 0.9812345678
    assert value(page, "kinase_experiment_device_seconds_total", **who) == 12345.678
    assert value(page, "kinase_experiment_budget_left_ratio", limit="trials", **who) == 1 / 3
    assert value(page, "kinase_experiment_trials", outcome="Infeasible", **who) == 3
    assert value(page, "kinase_experiment_condition", condition="Ready", **who) == 1
    assert value(page, "kinase_experiment_start_timestamp_seconds", **who) == 1893456000


def test_rungs_are_the_statuss() -> None:
    page = operator().page()
    who = {"namespace": "team-2", "experiment": "search-0002"}
    trials = "kinase_experiment_rung_trials"
    assert value(page, trials, rung="0", state="Promoted", **who) == 9
    assert value(page, trials, rung="1", state="Reached", **who) == 9
    assert value(page, trials, rung="2", state="Paused", **who) == 0
    assert value(page, trials, rung="2", state="Stopped", **who) == 1
    assert value(page, "kinase_experiment_rung_epochs_total", rung="2", **who) == 20
    assert value(page, "kinase_experiment_best_rung", **who) == 2
    assert value(page, "kinase_experiment_trials_paused", **who) == 12
    other = {"namespace": "team-0", "experiment": "search-0000"}
    assert value(page, "kinase_experiment_trials_paused", **other) == 0
    assert value(page, "kinase_experiment_best_rung", **other) is None
    assert value(page, trials, **other) is None


def test_a_paused_trial_improved_when_it_paused() -> None:
    metrics, loop = controller(), Loop()
    loop.best = record(0, 1.0)
    loop.best.outcome = None
    loop.best.rests.append((WHOLE, Rested(trial=0, done=1, elapsed=70.0)))
    metrics.measure(loop)  # type: ignore[arg-type]
    found = value(metrics.page(), "kinase_last_improvement_timestamp_seconds")
    assert found == pytest.approx(time.time() - 30, abs=5)


def test_a_replay_begins_where_the_journal_ends() -> None:
    metrics = controller()
    name = "kinase_trials_total"
    assert value(metrics.page(), name, kind="Search", outcome="Failed") == 1
    metrics.replayed([record(0, 12.5), record(1, 7.5, Outcome.FAILED), record(2, 1.0)])
    page = metrics.page()
    assert value(page, name, kind="Search", outcome="Succeeded") == 2
    assert value(page, name, kind="Final", outcome="Failed") == 0
    assert value(page, "kinase_trial_seconds_sum") == 21.0
    assert value(page, "kinase_trial_queue_seconds_count") == 1  # the process's own


def test_before_the_journal_is_read_no_trial_is_counted() -> None:
    page = ControllerMetrics("ns", "toy").page()
    assert value(page, "kinase_trials_total") is None
    assert value(page, "kinase_store_operations_total", outcome="error") == 0


def test_the_last_improvement_is_by_the_searchs_own_clock() -> None:
    metrics, loop = controller(), Loop()
    name = "kinase_last_improvement_timestamp_seconds"
    found = value(metrics.page(), name)
    assert found == pytest.approx(time.time() - 100, abs=5)
    loop.best = record(0, 1.0)
    loop.best.ended = 70.0
    metrics.measure(loop)  # type: ignore[arg-type]
    assert value(metrics.page(), name) == pytest.approx(time.time() - 30, abs=5)


class Broken(MemoryStore):
    """A store that fails as it is told."""

    error: Exception | None = None

    def get(self, key: str, limit: int | None = None) -> bytes:
        if self.error is not None:
            raise self.error
        return super().get(key, limit)


def test_operations_on_the_store_are_counted() -> None:
    from kinase.store import Conflict, NotFound, StoreError, StoreUnavailable

    metrics, inner = ControllerMetrics("ns", "toy"), Broken()
    store = MeteredStore(inner, metrics).sub("part")
    store.put("a", b"1")
    with pytest.raises(Conflict):
        store.put("a", b"2", if_absent=True)
    assert list(store.list()) == ["a"]
    assert store.exists("a")
    store.delete("a")
    with pytest.raises(NotFound):
        store.get("a")
    counted = "kinase_store_operations_total"
    for operation, times in {"put": 2, "list": 1, "get": 2, "delete": 1}.items():
        page = metrics.page()
        assert value(page, counted, operation=operation, outcome="ok") == times
        assert value(page, "kinase_store_operation_seconds_count", operation=operation) == times
    direct = MeteredStore(inner, metrics)
    for error, outcome in ((StoreUnavailable("away"), "unavailable"), (StoreError("no"), "error")):
        inner.error = error
        with pytest.raises(type(error)):
            direct.get("x")
        assert value(metrics.page(), counted, operation="get", outcome=outcome) == 1

"""A real Prometheus watches a real run: every panel has data, and the sums are right."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kinase.api.trial import Outcome, TrialResult
from tests.cluster import system
from tests.cluster.fixtures import a_bucket, a_namespace
from tests.cluster.helpers import wait_for
from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Node
from tests.cluster.lab.s3 import S3Server
from tests.cluster.system import Scene
from tests.watch import dashboards
from tests.watch.prometheus import Prometheus, configuration
from tests.watch.test_metrics import known, table
from tests.watch.test_rules import RULES

RUNBOOKS = sorted((Path(__file__).parents[2] / "docs/runbooks").glob("*.md"))
NAME = "digits"
TRIALS = 24
SPEC: dict[str, Any] = {
    "training": {"epochs": 2},
    # of each two candidates one is trained on, the other is stopped
    "estimation": {"type": "SuccessiveHalving", "successiveHalving": {"eta": 2}},
    "budget": {
        "trials": TRIALS,
        "parallelism": 3,
        "deviceHours": 1,
        "epochs": 160,
        "duration": "1h",
    },
    "control": {"share": 0.4},
    "finalists": {"count": 1},
    "trialTemplate": {
        "image": system.FAKE,
        "env": [
            {"name": "FAKE_EPOCH_SECONDS", "value": "0.3"},
            {"name": "FAKE_FAULT", "value": "infeasible"},
            {"name": "FAKE_FAULT_TRIAL", "value": "3"},
        ],
    },
}


@dataclass(frozen=True)
class Watched:
    """An experiment that is finished, and the Prometheus that saw all of it."""

    scene: Scene
    prometheus: Prometheus
    item: dict[str, Any]
    start: float
    middle: float
    """A time at which the search was under way, its controller having been killed before."""
    end: float
    pages: dict[str, str]
    """What operator and controller served at that time."""
    empty: list[tuple[str, str]]
    """Panels and queries that had no data at that time, nor within half a minute before."""

    @property
    def where(self) -> str:
        return f'namespace="{self.scene.namespace}",experiment="{NAME}"'

    def last(self, metric: str) -> float:
        """The last value of a metric of the experiment."""
        return self.prometheus.value(f"last_over_time({metric}{{{self.where}}}[1h])", self.end)

    def view(self, end: float) -> dashboards.View:
        """What a dashboard shows up to a time."""
        return _view(self.prometheus, self.scene.namespace, self.start, end)


def _view(prometheus: Prometheus, namespace: str, start: float, end: float) -> dashboards.View:
    values = dashboards.variables(namespace, NAME, "5s", f"{round(end - start)}s")
    return dashboards.View(prometheus, start, end, values)


def _empty(view: dashboards.View, name: str) -> list[tuple[str, str]]:
    """Queries of a dashboard's panels that have no number."""
    return [
        (panel["title"], target["expr"])
        for panel, target in dashboards.targets(dashboards.load(name))
        if not view.series(target)
    ]


@pytest.fixture(scope="module")
def watched(
    program: Path,
    kinase: system.Operator,
    cluster: Cluster,
    node: Node,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("prometheus")
    prometheus = Prometheus(program, folder, configuration(cluster, kinase)).start()
    try:
        with a_namespace(cluster) as namespace:
            bucket = a_bucket(cluster, namespace, s3_server)
            scene = Scene(cluster, node, kinase, namespace, bucket)
            start = time.time()
            scene.create(NAME, **SPEC)
            ended = f'sum(kinase_trials_total{{namespace="{namespace}"}})'
            wait_for(lambda: prometheus.value(ended) >= 5, 60, message="five trials")
            [pod] = scene.running("controller")
            node.kill(namespace, pod["metadata"]["name"])
            wait_for(lambda: not prometheus.instant(ended), message="its controller is gone")
            wait_for(lambda: prometheus.value(ended) >= 8, 60, message="eight trials")
            [pod] = scene.running("controller")
            pages = {"operator": kinase.page("/metrics"), "controller": _page(pod)}
            view = partial(_view, prometheus, namespace, start)
            empty: list[tuple[str, str]] = []
            for _ in range(60):  # rates need two values, and all of it is not there at once
                middle = time.time()
                empty = [each for name in dashboards.NAMES for each in _empty(view(middle), name)]
                if not empty:
                    break
                time.sleep(0.5)
            item = scene.finished(NAME)
            time.sleep(2)  # two scrapes of the end
            yield Watched(scene, prometheus, item, start, middle, time.time(), pages, empty)
    finally:
        prometheus.stop()


def _page(pod: dict[str, Any]) -> str:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{pod['status']['podIP']}:8080/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_every_query_of_every_panel_has_data(watched: Watched) -> None:
    assert watched.empty == []


@pytest.mark.parametrize("name", dashboards.NAMES)
def test_variables_have_values(watched: Watched, name: str) -> None:
    fill = dashboards.variables(watched.scene.namespace, NAME, "5s", "60s")
    for variable in dashboards.load(name)["templating"]["list"]:
        if variable["type"] != "query":
            continue
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        assert found is not None
        matcher = dashboards.fill(found[1], fill)
        values = watched.prometheus.ask(f"label/{found[2]}/values", **{"match[]": matcher})
        assert fill[variable["name"]] in values


def test_a_finished_experiment_still_answers(watched: Watched) -> None:
    """What its status tells is there when its controller has gone, but for what no status has."""
    gone = f"kinase_trials_total{{{watched.where}}}"
    wait_for(lambda: not watched.prometheus.instant(gone), message="the controller is gone")
    view, dashboard = watched.view(time.time()), dashboards.load("experiment")
    panels = [p for p in dashboards.panels(dashboard) if p["type"] == "stat"]
    empty = {p["title"] for p in panels for t in p["targets"] if not view.series(t)}
    assert empty == {"Last improvement"}


def test_both_endpoints_serve_what_the_table_lists(watched: Watched) -> None:
    for source, page in watched.pages.items():
        listed = {n: (t, labels) for n, t, labels, where in table() if where in (source, "both")}
        served = known(page.encode())
        assert set(served) == set(listed)
        for name, (kind, labels) in served.items():
            # of what has not happened there are no labels yet
            assert (kind, labels) in (listed[name], (listed[name][0], ()))


def test_device_seconds_of_the_trials_add_up_to_the_experiments(watched: Watched) -> None:
    store = watched.scene.store(NAME)
    keys = [key for key in store.list("trials/") if key.endswith("/result.json")]
    results = [TrialResult.model_validate_json(store.get(key)) for key in keys]
    assert len(results) == TRIALS + 1  # and one finalist
    total = sum(result.cost.device_seconds for result in results)
    assert total > TRIALS * 0.4
    metric = watched.last("kinase_experiment_device_seconds_total")
    assert metric == pytest.approx(total, abs=0.001)
    assert watched.item["status"]["cost"]["deviceSeconds"] == metric
    epochs = sum(result.cost.epochs for result in results)
    assert watched.last("kinase_experiment_epochs_total") == epochs


def test_the_controllers_histogram_is_of_the_same_trials(watched: Watched) -> None:
    told = watched.scene.journal(NAME, "told")
    count = round(watched.last("kinase_trial_seconds_count"))
    assert len(told) - 2 <= count <= len(told)  # the last scrape may be just before the end
    spent = sum(entry.cost.device_seconds for entry in told[:count])
    assert watched.last("kinase_trial_seconds_sum") == pytest.approx(spent)


def test_a_killed_controller_resets_no_counter_of_trials(watched: Watched) -> None:
    query = f"max_over_time(resets(kinase_trials_total{{{watched.where}}}[1h])[5s:1s])"
    found = watched.prometheus.instant(query, watched.middle)
    assert found
    assert {series["value"][1] for series in found} == {"0"}
    restarted = f"changes(process_start_time_seconds{{namespace='{watched.scene.namespace}'}}[1h])"
    assert watched.prometheus.value(f"sum({restarted})", watched.middle) == 1


def test_trials_that_waited_are_counted(watched: Watched) -> None:
    trials = watched.last("kinase_trial_queue_seconds_count")
    assert trials >= 5  # those that began under the controller that came after the kill
    assert 0 <= watched.last("kinase_trial_queue_seconds_sum") < 60


def test_the_best_objective_is_the_statuss(watched: Watched) -> None:
    best = watched.item["status"]["best"]["value"]
    assert watched.last("kinase_experiment_best_objective") == best
    outcomes = f"sum by (outcome) (last_over_time(kinase_experiment_trials{{{watched.where}}}[1h]))"
    found = {
        series["metric"]["outcome"]: float(series["value"][1])
        for series in watched.prometheus.instant(outcomes, watched.end)
    }
    told = Counter(e.outcome for e in watched.scene.journal(NAME, "told") if e.trial < TRIALS)
    assert found == {name: told[Outcome(name)] for name in found}
    assert found.keys() == {"Succeeded", "Infeasible", "Failed", "Stopped"}
    assert sum(found.values()) == TRIALS
    assert min(found["Succeeded"], found["Stopped"]) > TRIALS / 4


def test_experiments_are_told_under_their_own_namespace(watched: Watched) -> None:
    query = f'kinase_experiment_info{{experiment="{NAME}"}}'
    [series] = watched.prometheus.instant(query)
    assert series["metric"]["namespace"] == watched.scene.namespace
    assert "exported_namespace" not in series["metric"]


def test_the_alerts_are_loaded_and_quiet(watched: Watched) -> None:
    groups = watched.prometheus.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in RULES}
    wait_for(
        lambda: all(
            rule["health"] == "ok"
            for group in watched.prometheus.ask("rules")["groups"]
            for rule in group["rules"]
        ),
        message="every rule evaluated",
    )
    where = f'namespace=~"{watched.scene.namespace}|",severity=~"warning|critical"'
    firing = f'last_over_time(ALERTS{{{where},alertstate="firing"}}[1h])'
    assert watched.prometheus.instant(firing) == []


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in found for line in block.splitlines() if line]


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda path: path.stem)
def test_what_a_runbook_has_to_type_works(watched: Watched, page: Path) -> None:
    namespace = watched.scene.namespace
    for query in blocks(page, "promql"):
        watched.prometheus.ask("query", query=query.replace('"nas"', f'"{namespace}"'))
    for line in blocks(page, "console"):
        assert line.startswith("kubectl "), line
        if "kinase-system" in line or "port-forward" in line or "/readyz" in line:
            continue  # the operator of a test is no pod; the controller's pod has gone
        words = shlex.split(line.partition(" | ")[0].replace("-n nas ", f"-n {namespace} "))
        program = [str(binaries.get("kubectl")), f"--kubeconfig={watched.scene.cluster.kubeconfig}"]
        done = subprocess.run([*program, *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)

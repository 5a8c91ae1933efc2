"""A real Prometheus that scrapes the operator and the controllers of a test cluster."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from kinase.api import names
from tests.cluster import system
from tests.cluster.helpers import wait_for
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.processes import Child, free_ports

FILES = Path(__file__).parents[2] / "charts/kinase/files"
ALERTS = FILES / "alerts.yaml"
DASHBOARDS = FILES / "dashboards"


def configuration(cluster: Cluster, operator: system.Operator) -> dict[str, Any]:
    """What a ServiceMonitor of the operator and a PodMonitor of the controllers come to.

    The operator of a test is a process beside the cluster, so its address is fixed.
    """
    labels = {names.MANAGED_BY: names.MANAGER, names.COMPONENT: "controller"}
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    pods = {"role": "pod", "kubeconfig_file": str(cluster.kubeconfig)}
    meta = "__meta_kubernetes_pod"
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "2s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {
                "job_name": "kinase-operator",
                "honor_labels": True,  # an experiment's namespace is not the operator's
                "static_configs": [
                    {
                        "targets": [f"127.0.0.1:{operator.port()}"],
                        "labels": {"namespace": system.HOME, "pod": "kinase-operator"},
                    }
                ],
            },
            {
                "job_name": "kinase-controllers",
                "honor_labels": True,
                "kubernetes_sd_configs": [
                    {**pods, "selectors": [{"role": "pod", "label": selector}]}
                ],
                "relabel_configs": [
                    {
                        "source_labels": [f"{meta}_phase"],
                        "regex": "Failed|Succeeded",
                        "action": "drop",
                    },
                    {
                        "source_labels": [f"{meta}_container_port_name"],
                        "regex": "http",
                        "action": "keep",
                    },
                    {
                        "source_labels": ["__meta_kubernetes_namespace"],
                        "target_label": "namespace",
                    },
                    {"source_labels": [f"{meta}_name"], "target_label": "pod"},
                    {"source_labels": [f"{meta}_container_name"], "target_label": "container"},
                ],
            },
        ],
    }


class Prometheus:
    """One server, with data of its own in a folder."""

    def __init__(self, program: Path, folder: Path, config: dict[str, Any]) -> None:
        self._folder, self.log = folder, folder / "prometheus.log"
        file = folder / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config))
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._argv = [
            str(program),
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        self._child: Child | None = None

    def start(self) -> Prometheus:
        """Start it, and return when it is ready."""
        self._child = Child(self._argv, self.log)
        wait_for(self._ready, message="Prometheus ready")
        return self

    def stop(self) -> None:
        """End it."""
        if self._child is not None:
            self._child.stop()

    def _ready(self) -> bool:
        assert self._child is not None
        assert self._child.alive, self._child.said()
        return self._fetch("/-/ready") != ""

    def _fetch(self, path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def ask(self, path: str, **parameters: Any) -> Any:
        """The data of an answer of its API."""
        answer = json.loads(self._fetch(f"/api/v1/{path}?{urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def instant(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        """The series of a query at one time, now by default."""
        when = {} if at is None else {"time": at}
        found = self.ask("query", query=query, **when)
        assert found["resultType"] == "vector", (query, found["resultType"])
        return list(found["result"])

    def over(self, query: str, start: float, end: float, step: float = 1) -> list[dict[str, Any]]:
        """The series of a query over a time."""
        found = self.ask("query_range", query=query, start=start, end=end, step=step)
        return list(found["result"])

    def value(self, query: str, at: float | None = None) -> float:
        """The one value of a query."""
        [series] = self.instant(query, at)
        return float(series["value"][1])

"""The dashboards as Grafana gets them: their panels, and queries with the variables filled."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.watch.prometheus import DASHBOARDS, Prometheus

NAMES = sorted(path.stem for path in DASHBOARDS.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    """A dashboard as it is committed."""
    found: dict[str, Any] = json.loads((DASHBOARDS / f"{name}.json").read_text())
    return found


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All panels but rows, those within a collapsed row too."""
    found = []
    for panel in dashboard["panels"]:
        found += [panel, *panel.get("panels", ())]
    return [panel for panel in found if panel["type"] != "row"]


def targets(dashboard: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every query, with its panel."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel, target


def fill(query: str, values: Mapping[str, str]) -> str:
    """A query with Grafana's variables filled; one that has no value is an error."""
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], query)


@dataclass(frozen=True)
class View:
    """What a dashboard shows of a stretch of time."""

    prometheus: Prometheus
    start: float
    end: float
    values: Mapping[str, str]
    step: float = 1

    def series(self, target: Mapping[str, Any]) -> list[tuple[dict[str, str], list[Any]]]:
        """Labels and points of each series of a query that has a number; an instant query has one
        point, at the end."""
        query = fill(target["expr"], self.values)
        if target.get("instant"):
            raw = self.prometheus.instant(query, self.end)
            found = [(series["metric"], [series["value"]]) for series in raw]
        else:
            raw = self.prometheus.over(query, self.start, self.end, self.step)
            found = [(series["metric"], series["values"]) for series in raw]
        numbers = [
            (labels, [(at, float(value)) for at, value in points]) for labels, points in found
        ]
        return [
            (labels, points)
            for labels, points in numbers
            if any(not math.isnan(value) for _, value in points)
        ]


def variables(namespace: str, experiment: str, window: str, whole: str) -> dict[str, str]:
    """Values of the variables: one experiment, the window of a rate, the whole time shown."""
    return {
        "namespace": namespace,
        "experiment": experiment,
        "__rate_interval": window,
        "__range": whole,
    }

"""The report as one HTML document that needs nothing else."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from kinase.report import figures
from kinase.report.control import compare, value_of
from kinase.report.data import ReportData
from kinase.report.sketch import draw

ROWS = 2000
"""Most trials in the table."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kinase.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,.0f}"
    environment.filters["metric"] = lambda number: "–" if number is None else f"{number:.4f}"
    return environment


def embed(data: Any) -> Markup:
    """JSON for a script element: no character of it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def render(data: ReportData) -> str:
    """The report of an experiment, finished or under way."""
    drawn = {
        "incumbent": figures.incumbent(data),
        "trials": figures.trials(data),
        "curves": figures.curves(data),
        "cost": figures.cost(data),
    }
    lineage = figures.lineage(data)
    if lineage is not None:
        drawn["lineage"] = lineage
    winner = data.winner
    rows = [
        {
            "number": t.number,
            "kind": t.label or t.kind.value,
            "outcome": t.outcome.value if t.outcome else "Running",
            "value": value_of(data, t),
            "params": t.metrics.get("params"),
            "macs": t.metrics.get("macs"),
            "epochs": t.cost.epochs,
            "seconds": round(t.cost.device_seconds, 1),
            "made": f"{t.operation} {', '.join(map(str, t.parents))}".strip(),
            "architecture": json.dumps(t.architecture),
        }
        for t in data.trials[-ROWS:]
    ]
    return (
        _environment()
        .get_template("report.html")
        .render(
            data=data,
            winner=winner,
            comparison=compare(data),
            figures=embed({name: figures.as_json(figure) for name, figure in drawn.items()}),
            names=list(drawn),
            sketch=draw(winner.sketch, "the winner's architecture") if winner else None,
            architecture=json.dumps(winner.architecture, indent=1) if winner else "",
            rows=embed(rows),
            left_out=max(0, len(data.trials) - ROWS),
            failures=figures.failures(data)[:200],
            manifest=yaml.safe_dump(data.spec, sort_keys=False, allow_unicode=True),
            plotly=Markup(get_plotlyjs()),
            curve_limit=figures.CURVES,
        )
    )

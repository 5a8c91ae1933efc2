"""The report as one HTML document that needs nothing else.

Names, messages and architectures are untrusted: the template escapes them, data for the scripts
is embedded as JSON that can't end its element, and a content security policy lets the page run
its own scripts only (by their SHA-256) and ask the network for nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from kinase.api.trial import Cost, Kind, Outcome
from kinase.report import figures, theme
from kinase.report.control import compare, ended, value_of, valued
from kinase.report.data import ReportData, ReportTrial
from kinase.report.lineage import ANCESTORS, ancestors, lineage
from kinase.report.sketch import draw

ROWS = 10_000
"""Most trials in the table; the latest are kept."""
FAILURES = 200
"""Most failures listed."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kinase.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda number: f"{number:,.0f}",
        "metric": theme.metric,
        "quantity": theme.quantity,
        "duration": theme.duration,
        "brief": theme.brief,
        "shorten": theme.shorten,
    }
    return environment


@cache
def _part(name: str) -> Markup:
    """A file of ours that goes into the page as it is."""
    return Markup(files("kinase.report").joinpath("templates", name).read_text("utf-8"))


@cache
def _scripts() -> tuple[Markup, Markup, str]:
    """plotly.js, the page's own script, and the policy's word for the two."""
    # A parser reads \r\n as \n, and hashes what it has read.
    plotly, own = Markup(get_plotlyjs().replace("\r\n", "\n")), _part("report.js")
    digests = (hashlib.sha256(text.encode()).digest() for text in (plotly, own))
    return plotly, own, " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)


def embed(data: Any) -> Markup:
    """JSON for a script element: no character of it can end the element.

    Raises:
        ValueError: a number that JSON doesn't have.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _origin(trial: ReportTrial) -> str:
    made = f"{trial.operation} {', '.join(map(str, trial.parents))}".strip()
    rate = f"learning rate x {trial.learning_rate:.3g}" if trial.learning_rate != 1 else ""
    return ", ".join(filter(None, (made, trial.inherited, rate)))


def _row(data: ReportData, trial: ReportTrial) -> list[Any]:
    """A trial's line in the table, in the order of `columns` in report.js."""
    return [
        trial.number,
        trial.label or trial.kind.value,
        trial.outcome.value if trial.outcome else "Running",
        _number(value_of(data, trial)),
        _number(trial.metrics.get("params")),
        _number(trial.metrics.get("macs")),
        trial.cost.epochs,
        round(trial.cost.device_seconds, 1),
        _origin(trial),
        theme.brief(trial.architecture),
    ]


def _failures(data: ReportData) -> list[ReportTrial]:
    """Trials that gave no value, and others with a remark."""
    bad = (Outcome.FAILED, Outcome.INFEASIBLE)
    return [t for t in data.trials if t.outcome in bad or (t.outcome and t.message)]


def _sum(costs: dict[str, Cost]) -> Cost:
    return sum(costs.values(), start=Cost())


def document(data: ReportData) -> str:
    """The report of an experiment, finished or under way."""
    winner = data.winner
    by_number = {t.number: t for t in data.trials}
    scored = valued(data, *Kind)
    searched = valued(data, Kind.SEARCH, Kind.CONTROL)
    line = ancestors(data)
    drawn: dict[str, Any] = {}
    if searched:
        drawn["incumbent"] = {u: figures.incumbent(data, u) for u in figures.COSTS}
    if any(t.metrics.get("params", 0) > 0 for t, _ in scored):
        drawn["trials"] = {v: figures.trials(data, v) for v in figures.views(data)}
    if any(t.curve for t, _ in scored):
        drawn["curves"] = {v: figures.curves(data, v) for v in figures.views(data)}
    if len(line) > 1:
        drawn["lineage"] = {"": lineage(data, line)}
    if _sum(data.cost).epochs:
        drawn["cost"] = {"": figures.cost(data)}
    plots = {n: {u: figures.as_json(f) for u, f in each.items()} for n, each in drawn.items()}
    plotly, own, hashes = _scripts()
    failures = _failures(data)
    return (
        _environment()
        .get_template("report.html")
        .render(
            data=data,
            winner=winner,
            found_by=by_number.get(winner.found_by) if winner else None,
            comparison=compare(data),
            control_count=len(ended(data, Kind.CONTROL)),
            control_valued=len(valued(data, Kind.CONTROL)),
            counts=_counts(data),
            scored=len(scored),
            searched=len(searched),
            front=figures.front_of(data),
            finals=_finals(data),
            curve_count=len(figures.chosen_curves(data)),
            with_curve=sum(bool(t.curve) for t, _ in searched),
            ancestors=line,
            ancestors_limit=ANCESTORS,
            total=_sum(data.cost),
            drawn=drawn,
            sketch=draw(winner.sketch, "The winner's architecture") if winner else None,
            architecture=json.dumps(winner.architecture, indent=1) if winner else "",
            left_out=max(0, len(data.trials) - ROWS),
            failures=failures[:FAILURES],
            failure_count=len(failures),
            manifest=yaml.safe_dump(data.spec, sort_keys=False, allow_unicode=True),
            value_of=lambda trial: value_of(data, trial),
            light=theme.LIGHT,
            dark=theme.DARK,
            style=_part("report.css"),
            plotly=plotly,
            script=own,
            hashes=hashes,
            embedded=embed(
                {
                    "figures": plots,
                    "rows": [_row(data, t) for t in data.trials[-ROWS:]],
                    "palette": {"light": theme.LIGHT, "dark": theme.DARK},
                    "metric": data.metric,
                }
            ),
        )
    )


def _finals(data: ReportData) -> list[ReportTrial]:
    """Finalists and networks made by hand that have ended, the best first."""
    trials = ended(data, Kind.FINAL, Kind.BASELINE)
    better = -1.0 if data.goal == "maximize" else 1.0

    def order(trial: ReportTrial) -> tuple[bool, float, float]:
        value = value_of(data, trial)
        return value is None, better * (value or 0.0), trial.metrics.get("params", 0.0)

    return sorted(trials, key=order)


def _counts(data: ReportData) -> dict[str, int]:
    """Trials by how they stand."""
    names = [t.outcome.value.lower() if t.outcome else "running" for t in data.trials]
    return {name: names.count(name) for name in dict.fromkeys(names)}

"""The report of one experiment."""

from __future__ import annotations

import json
import math
from typing import Any

import yaml

from kinase.api.trial import Cost, Kind, Outcome
from kinase.report import (
    confusion,
    figures,
    fronts,
    ranking,
    stretch_figures,
    stretches,
    supernet_figures,
    supernet_section,
    theme,
    timeline,
    tradeoffs,
)
from kinase.report.anytime import COSTS
from kinase.report.control import ended, value_of, valued
from kinase.report.data import ReportData, ReportTrial
from kinase.report.html import fill
from kinase.report.importance import FEWEST, importance
from kinase.report.lineage import ANCESTORS, ancestors, edits, lineage
from kinase.report.rungs import compared
from kinase.report.sketch import draw
from kinase.report.verdict import verdict

ROWS = 10_000
"""Maximum number of trials in the table: the latest."""
WHOLE = 500
"""Maximum number of trials whose complete architectures are embedded, for the CSV file."""
FAILURES = 200
"""Maximum number of failures listed."""


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _origin(trial: ReportTrial) -> str:
    made = f"{trial.operation} {', '.join(map(str, trial.parents))}".strip()
    rate = f"learning rate x {trial.learning_rate:.3g}" if trial.learning_rate != 1 else ""
    return ", ".join(filter(None, (made, trial.inherited, rate)))


def _row(data: ReportData, trial: ReportTrial) -> list[Any]:
    """A trial's row in the table, in the order of `columns` in table.js."""
    return [
        trial.number,
        trial.label or trial.kind.value,
        state_of(trial),
        _number(value_of(data, trial)),
        _number(trial.metrics.get("params")),
        _number(trial.metrics.get("macs")),
        trial.cost.epochs,
        round(trial.cost.device_seconds, 1),
        _origin(trial),
        theme.brief(trial.architecture),
    ]


def state_of(trial: ReportTrial) -> str:
    """Its outcome, or what it does."""
    if trial.outcome is not None:
        return trial.outcome.value
    return "Paused" if trial.resting else "Running"


def _more(data: ReportData) -> dict[str, Any]:
    """Data for the CSV file only: further metrics, and architectures as JSON, if there are not too
    many."""
    shown = data.trials[-ROWS:]
    known = {data.metric, "params", "macs"}
    names = sorted({name for t in shown for name in t.metrics} - known)
    columns = {name: [_number(t.metrics.get(name)) for t in shown] for name in names}
    columns |= stretches.columns(data, shown)
    return {
        "metrics": list(columns),
        "values": [list(row) for row in zip(*columns.values(), strict=True)],
        "architectures": [
            json.dumps(t.architecture, separators=(",", ":"), default=str) for t in shown
        ]
        if len(shown) <= WHOLE
        else [],
    }


def _failures(data: ReportData) -> list[ReportTrial]:
    """Trials without a value, and others with a remark."""
    bad = (Outcome.FAILED, Outcome.INFEASIBLE)
    return [t for t in data.trials if t.outcome in bad or (t.outcome and t.message)]


def _sum(costs: dict[str, Cost]) -> Cost:
    return sum(costs.values(), start=Cost())


def document(data: ReportData) -> str:
    """The report of a finished or running experiment."""
    winner = data.winner
    by_number = {t.number: t for t in data.trials}
    scored = valued(data, *Kind)
    searched = valued(data, Kind.SEARCH, Kind.CONTROL)
    line = ancestors(data)
    drawn: dict[str, Any] = {}
    if searched:
        drawn["incumbent"] = {u: figures.incumbent(data, u) for u in COSTS}
    if any(t.metrics.get("params", 0) > 0 for t, _ in scored):
        drawn["trials"] = {v: figures.trials(data, v) for v in figures.views(data)}
    frame = fronts.frame_of(data) if data.also else None
    if frame is not None:
        drawn["pairs"] = tradeoffs.pairs(data)
        if not frame.flat:
            drawn["volume"] = {u: tradeoffs.hypervolume(data, u, frame) for u in COSTS}
    if any(t.curve for t, _ in scored):
        drawn["curves"] = {v: figures.curves(data, v) for v in figures.views(data)}
    staged = stretches.section_of(data)
    if staged is not None and any(t.curve for t, _ in searched):
        drawn["rungs"] = {v: stretch_figures.curves(data, v) for v in figures.views(data)}
    if staged is not None and staged.groups:
        drawn["calibration"] = {"": stretch_figures.calibration(staged.groups)}
    supernet = supernet_section.section_of(data)
    if supernet is not None:
        drawn |= _supernet_figures(data, supernet)
    if len(line) > 1:
        drawn["lineage"] = {"": lineage(data, line)}
    slots = timeline.stays(data)
    if slots and max(stay.ended for stay in slots) > 0:
        drawn["timeline"] = {"": timeline.timeline(data, slots)}
    if _sum(data.cost).epochs:
        drawn["cost"] = {"": figures.cost(data)}
    plots = {n: {u: figures.as_json(f) for u, f in each.items()} for n, each in drawn.items()}
    failures = _failures(data)
    return fill(
        "report.html",
        ("figures.js", "table.js"),
        {
            "figures": plots,
            "rows": [_row(data, t) for t in data.trials[-ROWS:]],
            "metric": data.metric,
            "name": data.name,
            "more": _more(data),
        },
        data=data,
        winner=winner,
        found_by=by_number.get(winner.found_by) if winner else None,
        verdict=verdict(data),
        compared=compared(data),
        control_count=len(ended(data, Kind.CONTROL)),
        control_valued=len(valued(data, Kind.CONTROL)),
        counts=_counts(data),
        scored=len(scored),
        searched=len(searched),
        front=figures.front_of(data),
        finals=_finals(data),
        curve_count=len(figures.chosen_curves(data)),
        with_curve=sum(bool(t.curve) for t, _ in searched),
        tested=data.tested,
        heat_map=confusion.heat_map(winner) if winner and winner.confusion else None,
        confused=confusion.worst(winner) if winner and winner.confusion else [],
        ancestors=line,
        edits=edits(data, line),
        slots=1 + max((stay.slot for stay in slots), default=0),
        used=timeline.used(slots),
        timeline_count=len(slots),
        timeline_most=timeline.MOST,
        importance=importance(data),
        fewest=FEWEST,
        ancestors_limit=ANCESTORS,
        total=_sum(data.cost),
        drawn=drawn,
        sketch=draw(winner.sketch, "The winner's architecture") if winner else None,
        architecture=json.dumps(winner.architecture, indent=1) if winner else "",
        stretches=staged,
        supernet=supernet,
        rank_fewest=ranking.FEWEST,
        left_out=max(0, len(data.trials) - ROWS),
        failures=failures[:FAILURES],
        failure_count=len(failures),
        manifest=yaml.safe_dump(data.spec, sort_keys=False, allow_unicode=True),
        value_of=lambda trial: value_of(data, trial),
    )


def _supernet_figures(
    data: ReportData, found: supernet_section.SupernetSection
) -> dict[str, dict[str, Any]]:
    """The figures of the section on the supernet, by name and variant."""
    net, drawn = found.supernet, dict[str, dict[str, Any]]()
    if metrics := supernet_figures.curve_metrics(data, net):
        drawn["supernetCurve"] = {m: supernet_figures.curve(net, m) for m in metrics}
    if (watch := supernet_figures.watch(net)) is not None:
        drawn["supernetWatch"] = {"": watch}
    if net.choices is not None and net.choices.epochs:
        for name, draw_part in (
            ("supernetChoices", supernet_figures.choices),
            ("supernetLast", supernet_figures.last),
        ):
            drawn[name] = {part.name: draw_part(net.choices, part) for part in found.parts}
    if found.candidates:
        drawn["supernetScores"] = {"": supernet_figures.scores(data)}
    if any(found.pairs.values()):
        drawn["supernetRanks"] = {"": supernet_figures.ranks(data, found)}
    return drawn


def _finals(data: ReportData) -> list[ReportTrial]:
    """Finished finalists and hand-designed networks, the best first."""
    trials = ended(data, Kind.FINAL, Kind.BASELINE)
    better = -1.0 if data.goal == "maximize" else 1.0

    def order(trial: ReportTrial) -> tuple[bool, float, float]:
        value = value_of(data, trial)
        return value is None, better * (value or 0.0), trial.metrics.get("params", 0.0)

    return sorted(trials, key=order)


def _counts(data: ReportData) -> dict[str, int]:
    """Number of trials by outcome."""
    names = [state_of(trial).lower() for trial in data.trials]
    return {name: names.count(name) for name in dict.fromkeys(names)}

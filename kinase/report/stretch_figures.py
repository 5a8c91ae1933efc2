"""The figures of the section on stretches and rungs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from kinase.api.trial import Kind, Outcome
from kinase.estimation.calibration import Group
from kinase.experiment.rungs import OVER
from kinase.report.data import ReportData, ReportTrial
from kinase.report.figures import section
from kinase.report.stretches import order
from kinase.report.styles import base
from kinase.words import counted

EACH = 40
"""Maximum number of learning curves of each group."""
GROUPS = (
    ("to the end", "blue", "solid", "circle"),
    ("stopped", "orange", "dot", "x"),
    ("would have been stopped, trained on", "purple", "dashdot", "diamond"),
    ("paused, or under way", "gold", "dash", "square"),
)
"""Names, colours, dashes and symbols of curves."""


def group_of(trial: ReportTrial) -> int:
    """The place in `GROUPS` of a trial's curve."""
    if trial.spared:
        return 2
    if trial.outcome is Outcome.SUCCEEDED:
        return 0
    waited = trial.outcome is None or trial.message == OVER
    return 3 if waited else 1


def curves(data: ReportData, view: str) -> go.Figure:
    """Learning curves of search and control, with a mark at each pause; those that were stopped
    apart from the others."""
    figure = base("epoch", data.metric)
    found: list[list[ReportTrial]] = [[] for _ in GROUPS]
    for trial in data.trials:
        if trial.kind in (Kind.SEARCH, Kind.CONTROL) and trial.curve:
            found[group_of(trial)].append(trial)
    drawn: list[float] = []
    for (name, colour, dash, symbol), trials in zip(GROUPS, found, strict=True):
        if not trials:
            continue
        ranked = sorted(trials, key=lambda t: (-t.rung, *order(data, t), t.number))
        step = max(1.0, len(ranked) / EACH)
        chosen = [ranked[int(i * step)] for i in range(min(EACH, len(ranked)))]
        text = name if len(chosen) == len(ranked) else f"{name} ({len(chosen)} of {len(ranked)})"
        xs, ys, texts, sizes = _lines(data, chosen)
        drawn += [y for y in ys if y is not None]
        figure.add_scatter(
            x=xs,
            y=ys,
            text=texts,
            mode="lines+markers",
            line={"width": 1.2, "color": f"var(--{colour})", "dash": dash},
            marker={"size": sizes, "symbol": symbol, "color": f"var(--{colour})", "opacity": 1},
            opacity=0.8,
            hovertemplate="%{text}, epoch %{x}: %{y:.4f}<extra></extra>",
            name=text,
        )
    limits = section(data, view, drawn)
    if limits is not None:
        figure.update_yaxes(range=limits)
    figure.update_xaxes(rangemode="tozero")
    return figure


def _lines(
    data: ReportData, trials: Sequence[ReportTrial]
) -> tuple[list[int | None], list[float | None], list[str], list[float]]:
    """Curves one after another, with gaps, and a mark where a trial paused or ended early."""
    xs: list[int | None] = []
    ys: list[float | None] = []
    texts: list[str] = []
    sizes: list[float] = []
    for trial in trials:
        marked = set(trial.pauses)
        if trial.outcome is Outcome.STOPPED:
            marked.add(trial.curve[-1].epoch)
        for point in trial.curve:
            xs.append(point.epoch)
            ys.append(point.metrics.get(data.metric))
            texts.append(f"trial {trial.number}")
            sizes.append(6.0 if point.epoch in marked or len(trial.curve) == 1 else 0.0)
        xs.append(None)
        ys.append(None)
        texts.append("")
        sizes.append(0.0)
    return xs, ys, texts, sizes


def calibration(groups: Sequence[Group]) -> go.Figure:
    """Predicted probabilities against what came true."""
    figure = base("predicted probability to reach the bar", "share that reached it")
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": "var(--soft)", "dash": "dash", "width": 1},
        hoverinfo="skip",
        name="as predicted",
    )
    error: dict[str, Any] = {
        "type": "data",
        "symmetric": False,
        "array": [g.interval[1] - g.reached for g in groups],
        "arrayminus": [g.reached - g.interval[0] for g in groups],
        "color": "var(--blue)",
        "thickness": 1.5,
        "width": 4,
    }
    figure.add_scatter(
        x=[g.predicted for g in groups],
        y=[g.reached for g in groups],
        error_y=error,
        text=[counted(g.trials, "trial") for g in groups],
        mode="markers",
        marker={"size": 9, "color": "var(--blue)"},
        hovertemplate="%{x:.2f} predicted, %{y:.2f} came true<br>%{text}<extra></extra>",
        name="came true, with 95 % interval",
    )
    figure.update_xaxes(range=[-0.03, 1.03])
    figure.update_yaxes(range=[-0.03, 1.03])
    return figure

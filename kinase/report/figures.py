"""The report's figures, as plain data for plotly."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go

from kinase.api.trial import Kind, Outcome
from kinase.report.control import expected_best, finished, quantile_best, value_of
from kinase.report.data import ReportData, ReportTrial
from kinase.strategy.pareto import pareto_front

# Okabe & Ito 2008: told apart by people with any colour vision
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a8f98"
CURVES = 60
"""Most learning curves drawn."""


def _figure(x: str, y: str, **layout: Any) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        xaxis_title=x,
        yaxis_title=y,
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 64, "r": 16, "t": 8, "b": 52},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
        font={"family": "inherit", "color": GREY},
        **layout,
    )
    figure.update_xaxes(gridcolor="rgba(128,128,128,.2)", zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor="rgba(128,128,128,.2)", zeroline=False, automargin=True)
    return figure


def as_json(figure: go.Figure) -> dict[str, Any]:
    """Data and layout of a figure."""
    document: dict[str, Any] = json.loads(figure.to_json())
    document["layout"].pop("template", None)
    return document


def incumbent(data: ReportData) -> go.Figure:
    """Best value over the cost in epochs, with the control's band and the target.

    The band is what random search reaches at the same cost: of its n values, the expected
    largest of k drawn without replacement, and the 10 % and 90 % quantiles.
    """
    sign = 1.0 if data.goal == "maximize" else -1.0
    figure = _figure("training epochs", data.metric)
    control = [
        sign * v for t in finished(data, Kind.CONTROL) if (v := value_of(data, t)) is not None
    ]
    costs = [t.cost.epochs for t in data.trials if t.kind is Kind.CONTROL and t.cost.epochs]
    if control and costs:
        step = sum(costs) / len(costs)
        draws = range(1, len(control) + 1)
        x = [k * step for k in draws]
        low, high = ([sign * quantile_best(control, k, q) for k in draws] for q in (0.1, 0.9))
        figure.add_scatter(
            x=[*x, *x[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            fillcolor="rgba(213,94,0,.16)",
            line={"width": 0},
            hoverinfo="skip",
            name="random control, 10-90 %",
        )
        figure.add_scatter(
            x=x,
            y=[sign * expected_best(control, k) for k in draws],
            mode="lines",
            line={"color": ORANGE, "dash": "dash"},
            name="random control, expected best",
        )
    xs: list[float] = []
    ys: list[float] = []
    best, spent = -float("inf"), 0
    ended = [t for t in data.trials if t.kind is Kind.SEARCH and t.order is not None]
    for trial in sorted(ended, key=lambda t: t.order or 0):
        spent += trial.cost.epochs
        value = value_of(data, trial)
        if value is not None:
            best = max(best, sign * value)
        if best > -float("inf"):
            xs.append(spent)
            ys.append(sign * best)
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines",
        line={"color": BLUE, "width": 2.5, "shape": "hv"},
        name="strategy, best so far",
    )
    if data.target is not None:
        figure.add_hline(
            y=data.target, line={"color": GREEN, "dash": "dot"}, annotation_text="target"
        )
    return figure


GROUPS: tuple[tuple[Kind, str, str, str, int], ...] = (
    (Kind.SEARCH, "search", BLUE, "circle", 8),
    (Kind.CONTROL, "random control", ORANGE, "diamond-open", 9),
    (Kind.FINAL, "finalist, full fidelity", GREEN, "star", 13),
    (Kind.BASELINE, "made by hand, full fidelity", PURPLE, "square", 11),
)


def trials(data: ReportData) -> go.Figure:
    """Value against parameters, the Pareto front of search and control marked."""
    figure = _figure("parameters", data.metric, xaxis_type="log")
    sign = 1.0 if data.goal == "maximize" else -1.0
    drawn = [t for t in finished(data, Kind.SEARCH, Kind.CONTROL) if "params" in t.metrics]
    points = [(-sign * (value_of(data, t) or 0.0), t.metrics["params"]) for t in drawn]
    front = sorted((drawn[i] for i in pareto_front(points)), key=lambda t: t.metrics["params"])
    figure.add_scatter(
        x=[t.metrics["params"] for t in front],
        y=[value_of(data, t) for t in front],
        mode="lines",
        line={"color": BLUE, "width": 1.5, "shape": "hv"},
        hoverinfo="skip",
        name="Pareto front of the search",
    )
    for kind, name, colour, symbol, size in GROUPS:
        group = [t for t in finished(data, kind) if "params" in t.metrics]
        if group:
            figure.add_scatter(
                x=[t.metrics["params"] for t in group],
                y=[value_of(data, t) for t in group],
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": size, "opacity": 0.85},
                text=[describe(data, t) for t in group],
                hovertemplate="%{text}<extra></extra>",
                name=name,
            )
    return figure


def describe(data: ReportData, trial: ReportTrial) -> str:
    """A trial in a few lines, for hovering; escaped, because plotly reads tags."""
    value = value_of(data, trial)
    lines = [
        f"trial {trial.number} {trial.label}".strip(),
        f"{data.metric} {value:.4f}" if value is not None else "",
        f"{trial.metrics.get('params', 0):,.0f} parameters",
        trial.fidelity,
        json.dumps(trial.architecture)[:160],
    ]
    safe = [x.replace("&", "&amp;").replace("<", "&lt;") for x in lines if x]
    return "<br>".join(safe)


def curves(data: ReportData) -> go.Figure:
    """Learning curves: the best trials, and the finalists by name."""
    figure = _figure("epoch", data.metric)
    sign = 1.0 if data.goal == "maximize" else -1.0
    searched = [t for t in finished(data, Kind.SEARCH, Kind.CONTROL) if t.curve]
    searched.sort(key=lambda t: -sign * (value_of(data, t) or 0.0))
    for trial in searched[:CURVES]:
        figure.add_scatter(
            x=[p.epoch for p in trial.curve],
            y=[p.metrics.get(data.metric) for p in trial.curve],
            mode="lines",
            line={"width": 1, "color": GREY},
            opacity=0.5,
            name=f"trial {trial.number}",
            showlegend=False,
        )
    for kind, _, colour, _, _ in GROUPS[2:]:
        for trial in finished(data, kind):
            won = data.winner is not None and data.winner.trial == trial.number
            name = "winner" if won else trial.label or f"finalist {trial.number}"
            figure.add_scatter(
                x=[p.epoch for p in trial.curve],
                y=[p.metrics.get(data.metric) for p in trial.curve],
                mode="lines",
                line={"width": 3 if won else 1.5, "color": colour},
                name=name.replace("<", "&lt;"),
            )
    return figure


def lineage(data: ReportData) -> go.Figure | None:
    """The winner's ancestors and their values, or None if it has none."""
    if data.winner is None:
        return None
    by_number = {t.number: t for t in data.trials}
    chain: dict[int, ReportTrial] = {}
    stack = [data.winner.found_by]
    while stack:
        number = stack.pop()
        if number in by_number and number not in chain:
            chain[number] = by_number[number]
            stack.extend(by_number[number].parents)
    if len(chain) < 2:
        return None
    figure = _figure("trial", data.metric)
    xs: list[float | None] = []
    ys: list[float | None] = []
    for trial in chain.values():
        for parent in trial.parents:
            if parent in chain:
                xs += [parent, trial.number, None]
                ys += [value_of(data, chain[parent]), value_of(data, trial), None]
    figure.add_scatter(
        x=xs, y=ys, mode="lines", line={"color": GREY}, hoverinfo="skip", showlegend=False
    )
    members = sorted(chain.values(), key=lambda t: t.number)
    figure.add_scatter(
        x=[t.number for t in members],
        y=[value_of(data, t) for t in members],
        mode="markers+text",
        text=[t.operation for t in members],
        textposition="top center",
        marker={"color": BLUE, "size": 11},
        hovertext=[describe(data, t) for t in members],
        hoverinfo="text",
        showlegend=False,
    )
    return figure


def cost(data: ReportData) -> go.Figure:
    """Epochs and device seconds by kind of trial, as shares."""
    figure = _figure("share of all", "", barmode="stack")
    colours = {"search": BLUE, "control": ORANGE, "finalists": GREEN, "baselines": PURPLE}
    rows = ("epochs", "sample passes", "device seconds")
    totals = [
        sum(c) or 1
        for c in zip(
            *[(c.epochs, c.samples, c.device_seconds) for c in data.cost.values()], strict=True
        )
    ] or [1, 1, 1]
    for name, spent in data.cost.items():
        amounts = (spent.epochs, spent.samples, spent.device_seconds)
        figure.add_bar(
            y=list(rows),
            x=[a / t for a, t in zip(amounts, totals, strict=True)],
            orientation="h",
            name=name,
            marker={"color": colours.get(name, GREY)},
            text=[f"{a:,.0f}" for a in amounts],
            hovertemplate="%{text}",
            textposition="inside",
        )
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    return figure


def failures(data: ReportData) -> list[ReportTrial]:
    """Trials that gave no value, with what is known of the cause."""
    bad = (Outcome.FAILED, Outcome.INFEASIBLE)
    return [t for t in data.trials if t.outcome in bad or (t.outcome and t.message)]

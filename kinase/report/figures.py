"""The report's figures, as plain data for plotly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median
from typing import Any

import plotly.graph_objects as go

from kinase.api.trial import Kind
from kinase.report.anytime import COSTS, curve, shared
from kinase.report.control import (
    best_of,
    ended,
    expected_best,
    quantile_best,
    sign,
    value_of,
    valued,
)
from kinase.report.data import ReportData, ReportTrial
from kinase.report.styles import (
    STYLES,
    Range,
    base,
    finalists,
    log_axis,
    padded,
    point_groups,
    safe,
)
from kinase.report.theme import brief, metric, shorten
from kinase.strategy.pareto import pareto_front
from kinase.words import counted

BAND_POINTS = 120
"""Maximum number of points of the control's band."""
BEST_CURVES, OTHER_CURVES = 50, 50
"""Number of learning curves: of the best trials, and of others evenly spaced by rank."""


def as_json(figure: go.Figure) -> dict[str, Any]:
    """Data and layout of a figure; NaN and infinity become null."""
    document: dict[str, Any] = json.loads(figure.to_json())
    document["layout"].pop("template", None)
    return document


def describe(data: ReportData, trial: ReportTrial) -> str:
    """A summary of a trial, for hovering."""
    lines = [
        f"trial {trial.number}, {trial.label or trial.kind.value.lower()}",
        f"{data.metric} {metric(value_of(data, trial))}",
        f"{trial.metrics['params']:,.0f} parameters" if "params" in trial.metrics else "",
        _trained(data, trial),
        shorten(brief(trial.architecture), 110),
    ]
    return "<br>".join(safe(line) for line in lines if line)


def _trained(data: ReportData, trial: ReportTrial) -> str:
    """What was spent on a trial; on a ladder, how far it got."""
    if not data.laddered or not trial.rungs:
        return trial.fidelity
    last = trial.rungs[-1]
    return f"rung {last.rung}: {counted(last.epochs, 'epoch')}, of {trial.fidelity}"


def incumbent(data: ReportData, unit: str) -> go.Figure:
    """Best value so far over the cost, with the control's band and the target.

    The band is the expected value of random search at the same cost (`expected_best`). The cost of
    failed control trials is distributed over those with a value.
    """
    title, cost_of = COSTS[unit]
    figure = base(title, data.metric)
    s = sign(data)
    xs, ys = curve(data, unit).steps()
    if data.laddered:
        return _incumbents(data, unit, figure)
    control = [s * v for _, v in valued(data, Kind.CONTROL)]
    before = shared(data, unit)
    whole = sum(cost_of(t) for t in ended(data, Kind.CONTROL))
    expected: list[float] = []
    x: list[float] = []
    if control and before + whole:
        draws = _spread(len(control), BAND_POINTS)
        x = [before + k * whole / len(control) for k in draws]
        low, high = ([s * quantile_best(control, k, q) for k in draws] for q in (0.1, 0.9))
        expected = [s * expected_best(control, k) for k in draws]
        figure.add_scatter(
            x=[*x, *x[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            fillcolor="var(--band)",
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            name="random search, 10 to 90 %",
        )
        figure.add_scatter(
            x=x,
            y=expected,
            mode="lines" if len(x) > 1 else "markers",
            line={"color": "var(--orange)", "dash": "dash", "width": 2},
            marker={"color": "var(--orange)", "symbol": "diamond-open"},
            hovertemplate="%{x:,.0f} " + title + "<br>expected %{y:.4f}<extra></extra>",
            name="random search, expected best",
        )
    if xs:
        figure.add_scatter(
            x=xs,
            y=ys,
            mode="lines+markers",
            line={"color": "var(--blue)", "width": 2.5, "shape": "hv"},
            marker={"size": [7] * (len(xs) - 1) + [0.1 if len(xs) > 1 else 9], "opacity": 1},
            hovertemplate="%{x:,.0f} " + title + "<br>best %{y:.4f}<extra></extra>",
            name="strategy, best so far",
        )
    if data.target is not None and (xs or x):
        figure.add_scatter(
            x=[0, max([*xs, *x])],
            y=[data.target] * 2,
            mode="lines",
            line={"color": "var(--green)", "dash": "dot", "width": 2},
            hoverinfo="skip",
            name=f"target {metric(data.target)}",
        )
    # the axis starts at a tenth of both costs; earlier values are far below
    late = [y for at, y in zip(xs, ys, strict=True) if at >= xs[-1] / 10]
    late += [y for at, y in zip(x, expected, strict=True) if at >= x[-1] / 10]
    shown = [*ys, *expected, *([data.target] if data.target is not None else [])]
    if late:
        figure.update_yaxes(range=padded(s, min(s * y for y in late), max(s * y for y in shown)))
    figure.update_xaxes(rangemode="tozero")
    return figure


def _incumbents(data: ReportData, unit: str, figure: go.Figure) -> go.Figure:
    """The best so far of search and control, where both train in rungs: the values of the control's
    trials are of several rungs, so that none can be drawn from them at random."""
    title, s = COSTS[unit][0], sign(data)
    shown: list[float] = []
    late: list[float] = []
    far = 0.0
    for kind, name, dash, width in (
        (Kind.CONTROL, "random search on the same ladder, best so far", "dash", 2.0),
        (Kind.SEARCH, "strategy, best so far", "solid", 2.5),
    ):
        xs, ys = curve(data, unit, kind).steps()
        if not xs:
            continue
        figure.add_scatter(
            x=xs,
            y=ys,
            mode="lines+markers",
            line={
                "color": f"var(--{STYLES[kind].colour})",
                "width": width,
                "shape": "hv",
                "dash": dash,
            },
            marker={"size": [7] * (len(xs) - 1) + [0.1 if len(xs) > 1 else 9], "opacity": 1},
            hovertemplate="%{x:,.0f} " + title + "<br>best %{y:.4f}<extra></extra>",
            name=name,
        )
        shown += ys
        late += [y for at, y in zip(xs, ys, strict=True) if at >= xs[-1] / 10]
        far = max(far, xs[-1])
    if data.target is not None and shown:
        figure.add_scatter(
            x=[0, far],
            y=[data.target] * 2,
            mode="lines",
            line={"color": "var(--green)", "dash": "dot", "width": 2},
            hoverinfo="skip",
            name=f"target {metric(data.target)}",
        )
        shown.append(data.target)
    if late:
        figure.update_yaxes(range=padded(s, min(s * y for y in late), max(s * y for y in shown)))
    figure.update_xaxes(rangemode="tozero")
    return figure


def _spread(count: int, most: int) -> list[int]:
    """At most `most` integers from 1 to `count`, denser at small numbers."""
    if count <= most:
        return list(range(1, count + 1))
    return sorted({round(count ** (i / (most - 1))) for i in range(most)})


VIEWS = ("better half", "all")
"""Sections of the values' axis: from the median of search and control on, or everything."""


def views(data: ReportData) -> tuple[str, ...]:
    """The sections to choose from; only one if there are few values."""
    return VIEWS if len(valued(data, Kind.SEARCH, Kind.CONTROL)) >= 8 else VIEWS[1:]


def section(data: ReportData, view: str, values: Sequence[float]) -> Range | None:
    """The axis that shows `values` from the median of search and control on, or all of them.

    Random architectures can be arbitrarily bad, and the good ones are of interest.
    """
    s = sign(data)
    if not values:
        return None
    low, high = min(s * v for v in values), max(s * v for v in values)
    if view == VIEWS[0]:
        low = max(low, median(s * v for _, v in valued(data, Kind.SEARCH, Kind.CONTROL)))
    return padded(s, low, high)


def front_of(data: ReportData) -> list[ReportTrial]:
    """The Pareto front of value and parameters among search and control, small networks first; of
    several rungs, among the trials of the highest one."""
    drawn = [
        (t, v) for t, v in valued(data, Kind.SEARCH, Kind.CONTROL) if t.metrics.get("params", 0) > 0
    ]
    highest = max((t.rung for t, _ in drawn), default=-1)
    drawn = [(t, v) for t, v in drawn if t.rung == highest]
    points = [(-sign(data) * v, t.metrics["params"]) for t, v in drawn]
    front = [drawn[i][0] for i in pareto_front(points)]
    return sorted(front, key=lambda t: t.metrics["params"])


def trials(data: ReportData, view: str) -> go.Figure:
    """Value against parameters: every trial, the Pareto front, and lines from search trials to
    their finalists."""
    figure = base("parameters", data.metric)
    front = front_of(data)
    if len(front) > 1:
        figure.add_scatter(
            x=[t.metrics["params"] for t in front],
            y=[value_of(data, t) for t in front],
            mode="lines",
            line={"color": "var(--soft)", "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
            name="Pareto front of search and control",
        )
    by_number = {t.number: t for t in data.trials}
    ways: list[ReportTrial | None] = []
    for trial, _ in valued(data, Kind.FINAL):
        origin = by_number.get(trial.parents[0]) if trial.parents else None
        if origin is not None and value_of(data, origin) is not None:
            ways += [origin, trial, None]
    if ways:
        figure.add_scatter(
            x=[t and t.metrics.get("params") for t in ways],
            y=[t and value_of(data, t) for t in ways],
            mode="lines",
            line={"color": "var(--green)", "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    points: list[tuple[float, float]] = []
    for style, members in point_groups(data):
        group = [(t, value_of(data, t) or 0.0) for t in members if t.metrics.get("params", 0) > 0]
        points += [(t.metrics["params"], v) for t, v in group]
        if group:
            figure.add_scatter(
                x=[t.metrics["params"] for t, _ in group],
                y=[v for _, v in group],
                mode="markers",
                marker=style.marker(len(group)),
                text=[describe(data, t) for t, _ in group],
                hovertemplate="%{text}<extra></extra>",
                cliponaxis=len(group) > 1,
                name=style.name,
            )
    limits = section(data, view, [v for _, v in points])
    if limits is not None:
        figure.update_yaxes(range=limits)
    shown = [p for p, v in points if limits is None or limits[0] <= v <= limits[1]]
    figure.update_xaxes(**log_axis(shown))
    return figure


def chosen_curves(data: ReportData) -> list[ReportTrial]:
    """Search and control trials whose curve is drawn: the best, and some evenly spaced by rank."""
    ranked = [
        t
        for t, _ in sorted(
            valued(data, Kind.SEARCH, Kind.CONTROL),
            key=lambda pair: (-pair[0].rung, -sign(data) * pair[1]),
        )
        if t.curve
    ]
    rest = ranked[BEST_CURVES:]
    step = max(1.0, len(rest) / OTHER_CURVES)
    others = [rest[int(i * step)] for i in range(min(OTHER_CURVES, len(rest)))]
    return ranked[:BEST_CURVES] + others


def curves(data: ReportData, view: str) -> go.Figure:
    """Learning curves: thin for search and control, bold for the best and the fully trained
    networks."""
    figure = base("epoch", data.metric)
    chosen = chosen_curves(data)
    drawn: list[float] = []

    def add(group: Sequence[ReportTrial], name: str, line: dict[str, Any], **more: Any) -> None:
        xs: list[int | None] = []
        ys: list[float | None] = []
        texts: list[str] = []
        for trial in group:
            for point in trial.curve:
                xs.append(point.epoch)
                ys.append(point.metrics.get(data.metric))
                texts.append(f"trial {trial.number}")
            xs.append(None)
            ys.append(None)
            texts.append("")
        drawn.extend(y for y in ys if y is not None)
        figure.add_scatter(
            x=xs,
            y=ys,
            text=texts,
            mode="lines" if len(xs) > 2 else "markers",
            line=line,
            hovertemplate="%{text}, epoch %{x}: %{y:.4f}<extra></extra>",
            name=safe(shorten(name, 40)),
            **more,
        )

    for kind in (Kind.SEARCH, Kind.CONTROL):
        group = [t for t in chosen if t.kind is kind]
        if group:
            line = {"width": 1, "color": "var(--thin)", "dash": STYLES[kind].dash}
            add(group, STYLES[kind].name, line, opacity=0.75)
    best = best_of(data, chosen)
    if best is not None:
        add([best[0]], "best of these", {"width": 2.5, "color": "var(--blue)"})
    for trial in [t for t in ended(data, Kind.BASELINE) if t.curve]:
        add([trial], trial.label or f"baseline {trial.number}", STYLES[Kind.BASELINE].line)
    for style, members in finalists(data)[::-1]:
        if group := [t for t in members if t.curve]:
            add(group, style.name, style.line)
    limits = section(data, view, drawn)
    if limits is not None:
        figure.update_yaxes(range=limits)
    return figure


KINDS = {
    "supernet": ("gold", "\\"),
    "search": ("blue", ""),
    "control": ("orange", "/"),
    "finalists": ("green", "."),
    "baselines": ("purple", "x"),
    "lost": ("soft", "-"),
}


def cost(data: ReportData) -> go.Figure:
    """Epochs, sample passes and device seconds by kind of trial, as shares of the whole."""
    figure = base(
        "share of the whole", "", barmode="stack", bargap=0.35, legend_traceorder="normal"
    )
    rows = ("device seconds", "sample passes", "epochs")
    amounts = {n: (c.device_seconds, c.samples, c.epochs) for n, c in data.cost.items()}
    totals = [sum(column) for column in zip(*amounts.values(), strict=True)]
    for name, spent in amounts.items():
        if not any(spent):
            continue
        colour, pattern = KINDS.get(name, ("thin", "+"))
        figure.add_bar(
            y=list(rows),
            x=[a / t if t else 0.0 for a, t in zip(spent, totals, strict=True)],
            orientation="h",
            name=safe(name),
            marker={
                "color": f"var(--{colour})",
                "line": {"color": "var(--paper)", "width": 1},
                "pattern": {"shape": pattern, "fillmode": "replace", "size": 6},
            },
            text=[f"{a:,.0f}" for a in spent],
            textposition="none",
            hovertemplate="%{y}: %{text} (%{x:.1%})<extra>" + safe(name) + "</extra>",
        )
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    return figure

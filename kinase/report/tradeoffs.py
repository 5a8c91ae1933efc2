"""Figures for several objectives: each pair, and the hypervolume over the cost."""

from __future__ import annotations

from itertools import combinations

import plotly.graph_objects as go

from kinase.api.objective import RESOURCE_METRICS
from kinase.api.trial import Kind
from kinase.report.anytime import COSTS
from kinase.report.control import ended
from kinase.report.data import ReportData, ReportTrial
from kinase.report.figures import describe
from kinase.report.fronts import Box, enough, losses_of, objectives, volumes
from kinase.report.styles import MANY, Style, base, log_axis, point_groups, safe
from kinase.strategy.pareto import pareto_front

LINES = (
    (Kind.SEARCH, "strategy", "blue", "solid"),
    (Kind.CONTROL, "random control", "orange", "dash"),
)


def pairs(data: ReportData) -> dict[str, go.Figure]:
    """Each pair of objectives, by name: every trial with both values, and the front of search and
    control. The first objective is on the vertical axis."""
    names = [metric for metric, _ in objectives(data)]
    return {
        f"{names[one]} – {names[other]}": _pair(data, one, other)
        for one, other in combinations(range(len(names)), 2)
    }


def _pair(data: ReportData, one: int, other: int) -> go.Figure:
    y, x = (objectives(data)[place][0] for place in (one, other))
    figure = base(safe(x), y)
    found = [(t, p) for t in ended(data, Kind.SEARCH, Kind.CONTROL) if (p := losses_of(data, t))]
    front = pareto_front([(p[one], p[other]) for _, p in found])
    line = sorted((found[i][0] for i in front), key=lambda t: t.metrics[x])
    if len(line) > 1:
        figure.add_scatter(
            x=[t.metrics[x] for t in line],
            y=[t.metrics[y] for t in line],
            mode="lines",
            line={"color": "var(--soft)", "width": 1.5},
            hoverinfo="skip",
            name="front of search and control in these two",
        )
    drawn: list[ReportTrial] = []
    for style, members in point_groups(data):
        group = [t for t in members if losses_of(data, t) is not None]
        drawn += group
        if group:
            _points(data, figure, group, x, y, style)
    limits = enough(data)
    for metric, draw in ((x, figure.add_vline), (y, figure.add_hline)):
        if metric in limits:
            draw(limits[metric], line={"color": "var(--green)", "dash": "dot", "width": 1.5})
    for metric, update in ((x, figure.update_xaxes), (y, figure.update_yaxes)):
        values = [t.metrics[metric] for t in drawn]
        if metric in RESOURCE_METRICS and min(values, default=0) > 0:
            update(**log_axis(values))
    return figure


def _points(
    data: ReportData,
    figure: go.Figure,
    group: list[ReportTrial],
    x: str,
    y: str,
    style: Style,
) -> None:
    many = len(group) > MANY
    figure.add_scatter(
        x=[t.metrics[x] for t in group],
        y=[t.metrics[y] for t in group],
        mode="markers",
        marker=style.marker(len(group)),
        text=[describe(data, t) for t in group]
        if not many
        else [f"trial {t.number}" for t in group],
        hovertemplate="%{text}<extra></extra>",
        name=style.name,
    )


def hypervolume(data: ReportData, unit: str, frame: Box) -> go.Figure:
    """The hypervolume of strategy and random control over their cost."""
    title = COSTS[unit][0]
    figure = base(title, "hypervolume, share of the box")
    for kind, name, colour, dash in LINES:
        xs, ys = volumes(data, unit, frame, kind).steps()
        if xs:
            figure.add_scatter(
                x=xs,
                y=ys,
                mode="lines" if len(xs) > 1 else "markers",
                line={"color": f"var(--{colour})", "dash": dash, "width": 2.5, "shape": "hv"},
                marker={"color": f"var(--{colour})"},
                hovertemplate="%{x:,.0f} " + title + "<br>%{y:.4f}<extra></extra>",
                name=name,
            )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(rangemode="tozero")
    return figure

"""The winner's ancestry."""

from __future__ import annotations

from collections import deque

import plotly.graph_objects as go

from kinase.report.control import value_of
from kinase.report.data import ReportData, ReportTrial
from kinase.report.figures import describe
from kinase.report.styles import base, safe

ANCESTORS = 200
"""Most ancestors shown: the nearest."""
NAMED = 14
"""Most ancestors whose operation is written into the figure; the table names all."""


def ancestors(data: ReportData) -> list[ReportTrial]:
    """The trial that found the winner and what it descends from, oldest first; nearest kept.

    Empty without a winner.
    """
    if data.winner is None:
        return []
    by_number = {t.number: t for t in data.trials}
    found: dict[int, ReportTrial] = {}
    queue = deque([data.winner.found_by])
    while queue and len(found) < ANCESTORS:
        number = queue.popleft()
        if number in by_number and number not in found:
            found[number] = by_number[number]
            queue.extend(by_number[number].parents)
    return sorted(found.values(), key=lambda t: t.number)


def lineage(data: ReportData, line: list[ReportTrial]) -> go.Figure:
    """Values along the ancestry `line`, an edge from each parent to its child."""
    figure = base("trial", data.metric)
    members = {t.number: t for t in line}
    xs: list[int | None] = []
    ys: list[float | None] = []
    for trial in line:
        for parent in trial.parents:
            if parent in members:
                xs += [parent, trial.number, None]
                ys += [value_of(data, members[parent]), value_of(data, trial), None]
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines",
        line={"color": "var(--soft)", "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    last = data.winner.found_by if data.winner else None
    named = len(line) <= NAMED
    figure.add_scatter(
        x=[t.number for t in line],
        y=[value_of(data, t) for t in line],
        mode="markers+text" if named else "markers",
        text=[safe(t.operation or "random") for t in line] if named else None,
        textposition="top center",
        textfont={"color": "var(--ink)", "size": 12},
        cliponaxis=False,
        marker={
            "color": ["var(--green)" if t.number == last else "var(--blue)" for t in line],
            "symbol": ["star" if t.number == last else "circle" for t in line],
            "opacity": 1,
            "size": [16 if t.number == last else 10 for t in line],
        },
        hovertext=[describe(data, t) for t in line],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    return figure

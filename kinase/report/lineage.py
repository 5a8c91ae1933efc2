"""The winner's ancestry."""

from __future__ import annotations

from collections import deque

import plotly.graph_objects as go

from kinase.report.control import value_of
from kinase.report.data import ReportData, ReportTrial
from kinase.report.edits import changes
from kinase.report.figures import describe
from kinase.report.styles import base, safe
from kinase.report.theme import shorten

ANCESTORS = 200
"""Maximum number of ancestors shown: the nearest."""
NAMED = 14
"""Maximum number of ancestors whose edit is written into the figure; the table has all."""
SHORT, HOVERED = 26, 6
"""Maximum characters of an edit in the figure, and maximum number of edits for hovering."""


def ancestors(data: ReportData) -> list[ReportTrial]:
    """The trial that found the winner and its nearest ancestors, oldest first.

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


def edits(data: ReportData, line: list[ReportTrial]) -> dict[int, list[str]]:
    """The edits from the first parent to each trial of the ancestry `line`: the morphisms, or the
    differences of the architectures; empty without a parent."""
    by_number = {t.number: t for t in data.trials}
    found: dict[int, list[str]] = {}
    for trial in line:
        parent = by_number.get(trial.parents[0]) if trial.parents else None
        found[trial.number] = list(trial.morphisms)
        if parent is not None and trial.morphisms:  # which say nothing of searched settings
            before, after = (each.architecture.get("training") for each in (parent, trial))
            found[trial.number] += changes(before, after, "training")
        elif parent is not None:
            found[trial.number] = changes(parent.architecture, trial.architecture)
    return found


def _label(trial: ReportTrial, made: list[str]) -> str:
    """Text at a point: its only edit, or the operation and the number of edits."""
    if len(made) == 1:
        return shorten(made[0], SHORT)
    word = trial.operation or "random"
    return f"{word}, {len(made)} edits" if len(made) > 1 else word


def _hover(made: list[str]) -> list[str]:
    more = [f"and {len(made) - HOVERED} more"] if len(made) > HOVERED else []
    return [safe(text) for text in [*made[:HOVERED], *more]]


def lineage(data: ReportData, line: list[ReportTrial]) -> go.Figure:
    """Values along the ancestry `line`, an edge from each parent to its child."""
    figure = base("trial", data.metric)
    made = edits(data, line)
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
        text=[safe(_label(t, made[t.number])) for t in line] if named else None,
        textposition="top center",
        textfont={"color": "var(--ink)", "size": 12},
        cliponaxis=False,
        marker={
            "color": ["var(--green)" if t.number == last else "var(--blue)" for t in line],
            "symbol": ["star" if t.number == last else "circle" for t in line],
            "opacity": 1,
            "size": [16 if t.number == last else 10 for t in line],
        },
        hovertext=["<br>".join([describe(data, t), *_hover(made[t.number])]) for t in line],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    return figure

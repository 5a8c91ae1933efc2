"""Common style of the report's figures: axes, points and lines.

Colours are written `var(--name)`: the page puts in the palette of its scheme, light or dark
(`kinase.report.theme`). Kinds of trials also differ in shape or dash, not only in colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from kinase.api.trial import Kind
from kinase.report.control import sign, valued
from kinase.report.data import ReportData, ReportTrial

Range = tuple[float, float]


def base(x: str, y: str, **layout: Any) -> go.Figure:
    """An empty figure in the report's style."""
    figure = go.Figure()
    figure.update_layout(
        xaxis_title_text=x,
        yaxis_title_text=safe(y),
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 16, "t": 16, "b": 56},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        showlegend=True,
        hovermode="closest",
        hoverlabel={"align": "left", "bgcolor": "var(--card)", "bordercolor": "var(--soft)"},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "var(--soft)"},
        **layout,
    )
    line = {"gridcolor": "var(--grid)", "linecolor": "var(--line)", "zeroline": False}
    figure.update_xaxes(showline=True, ticks="outside", tickcolor="var(--line)", **line)
    figure.update_yaxes(automargin=True, **line)
    return figure


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis around positive values, whose labels are whole numbers such as 20k.

    Below a decade plotly chooses ticks at even distances of the values themselves; above three it
    takes powers of ten. Between the two a decade has ticks at 1, 2 and 5: plotly's own would be
    labelled with the digit alone.
    """
    axis: dict[str, Any] = {
        "type": "log",
        "exponentformat": "SI",
        "minorloglabels": "complete",
        "tickangle": 0,
    }
    if not values:
        return axis
    decades = [math.log10(value) for value in values]
    span = max(decades) - min(decades)
    pad = 0.05 * span + (0.05 if span > 0.3 else 0.15)
    low, high = min(decades) - pad, max(decades) + pad
    axis["range"] = [low, high]
    if high - low >= 1:
        axis["dtick"] = "D2" if high - low <= 3 else 1
    else:
        axis["nticks"] = 6  # those near the upper end are close to each other
    return axis


def safe(text: str) -> str:
    """Text escaped for plotly, which interprets tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def padded(s: float, low: float, high: float) -> Range:
    """An axis from worse to better, with margins; s * value is between low and high."""
    pad = 0.06 * (high - low) or 0.02 * abs(high) or 0.02
    ends = (s * (low - pad), s * (high + 1.5 * pad))
    return min(ends), max(ends)


MANY = 1000
"""With more points than this, they are small and faint."""


@dataclass(frozen=True, slots=True)
class Style:
    """Style of trials."""

    name: str
    """Name in the legend."""
    colour: str
    symbol: str
    size: int
    dash: str = "solid"
    width: float = 1.5
    """Width of the dash and the line."""

    def marker(self, count: int) -> dict[str, Any]:
        """The style of `count` points."""
        many = count > MANY
        return {
            "color": f"var(--{self.colour})",
            "symbol": self.symbol,
            "size": 5 if many else self.size,
            "opacity": 0.45 if many else 0.85,
        }

    @property
    def line(self) -> dict[str, Any]:
        """The style of a line."""
        return {"color": f"var(--{self.colour})", "dash": self.dash, "width": self.width}


STYLES = {
    Kind.SEARCH: Style("search", "blue", "circle", 8),
    Kind.CONTROL: Style("random control", "orange", "diamond-open", 9, "dash"),
    Kind.BASELINE: Style("made by hand, fully trained", "purple", "square", 11, "dashdot", 2),
}
WINNER = ("green", "star", 17, "solid", 3.0)
FINALISTS = (
    ("gold", "triangle-up", 12, "dash", 1.8),
    ("ink", "pentagon-open", 12, "dot", 1.8),
    ("purple", "hexagram-open", 13, "longdash", 1.8),
    ("orange", "triangle-down-open", 12, "longdashdot", 1.8),
    ("blue", "square-open", 11, "dashdot", 1.8),
)
"""Colour, symbol, size, dash and width of the finalists, the best first; the last style is shared
by all others."""
REST = ("soft", "cross-open", 10, "dot", 1.2)


def finalists(data: ReportData) -> list[tuple[Style, list[ReportTrial]]]:
    """The finalists with a value and their styles: the winner, then the others, the best first;
    those beyond `FINALISTS` share one."""
    won = data.winner.trial if data.winner else None
    ranked = sorted(valued(data, Kind.FINAL), key=lambda pair: -sign(data) * pair[1])
    trials = [trial for trial, _ in ranked]
    others = [trial for trial in trials if trial.number != won]
    found = [
        (Style(f"winner, {final_name(trial)}", *WINNER), [trial])
        for trial in trials
        if trial.number == won
    ]
    for trial, style in zip(others, FINALISTS, strict=False):
        found.append((Style(final_name(trial), *style), [trial]))
    if rest := others[len(FINALISTS) :]:
        found.append((Style(f"{len(rest)} further finalist{'s'[: len(rest) != 1]}", *REST), rest))
    return found


def final_name(trial: ReportTrial) -> str:
    """Name of a finalist: `finalist 61 of trial 41`."""
    origin = f" of trial {trial.parents[0]}" if trial.parents else ""
    return f"finalist {trial.number}{origin}"


def point_groups(data: ReportData) -> list[tuple[Style, list[ReportTrial]]]:
    """Trials with a value, with styles for points; the winner's large star is below the other
    finalists."""
    found = [(STYLES[kind], [t for t, _ in valued(data, kind)]) for kind in STYLES]
    return [*found, *finalists(data)]

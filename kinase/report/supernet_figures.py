"""The figures of the section on a supernet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import plotly.graph_objects as go

from kinase.api.choices import ChoicesHistory
from kinase.api.trial import Kind
from kinase.experiment.trial_record import RANK_CHECK
from kinase.report.control import valued
from kinase.report.data import ReportData
from kinase.report.styles import STYLES, base, safe
from kinase.report.supernet import ReportSupernet
from kinase.report.supernet_section import WATCHED, Part, SupernetSection, means
from kinase.report.theme import HUES, shorten

LINES = 12
"""Maximum number of options with a line: the most probable at the end."""
ROWS = 30
"""Maximum number of groups with a bar of their last probabilities."""
POINTS = 400
"""Maximum number of scores of each kind that are drawn, evenly down the ranks."""
EPOCHS = 400
"""Maximum number of epochs that are drawn, evenly."""
DASHES = ("solid", "dash", "dot")
PATTERNS = ("", "/", "x", ".")
GOLDEN = 0.6180339887
"""Its multiples spread points evenly."""
NAMES = {
    "supernet_skips": "skips",
    "supernet_entropy": "entropy",
    "supernet_eigenvalue": "eigenvalue",
}


def curve_metrics(data: ReportData, supernet: ReportSupernet) -> list[str]:
    """Metrics of the learning curve: the objective first, then the loss and others."""
    known = {name for point in supernet.curve for name in point.metrics} - set(WATCHED)
    first = [name for name in (data.metric, "val_loss") if name in known]
    return list(dict.fromkeys([*first, *sorted(known)]))[:4]


def curve(supernet: ReportSupernet, metric: str) -> go.Figure:
    """A metric of the supernet after each epoch."""
    figure = base("epoch", metric)
    points = [(p.epoch, p.metrics[metric]) for p in supernet.curve if metric in p.metrics]
    figure.add_scatter(
        x=[epoch for epoch, _ in points],
        y=[value for _, value in points],
        mode="lines" if len(points) > 1 else "markers",
        line={"color": "var(--gold)", "width": 2.5},
        hovertemplate="epoch %{x}: %{y:.4f}<extra></extra>",
        name="supernet",
    )
    figure.update_xaxes(rangemode="tozero")
    figure.update_layout(showlegend=False)
    return figure


def watch(supernet: ReportSupernet) -> go.Figure | None:
    """What the watch of collapse has measured, one above the other; None if nothing."""
    rows = [n for n in WATCHED if any(n in point.metrics for point in supernet.curve)]
    if not rows:
        return None
    figure = base("", "")
    height, gap = 1 / len(rows), 0.06 if len(rows) > 1 else 0.0
    for row, name in enumerate(rows):
        points = [(p.epoch, p.metrics[name]) for p in supernet.curve if name in p.metrics]
        axis = "" if row == 0 else str(row + 1)
        figure.add_scatter(
            x=[epoch for epoch, _ in points],
            y=[value for _, value in points],
            xaxis="x",
            yaxis=f"y{axis}",
            mode="lines+markers" if len(points) <= 40 else "lines",
            line={"color": f"var(--{HUES[row]})", "width": 2},
            hovertemplate="epoch %{x}: %{y:.3f}<extra>" + NAMES[name] + "</extra>",
            name=NAMES[name],
        )
        top = 1 - row * height
        figure.update_layout(
            {
                f"yaxis{axis}": {
                    "domain": [max(0.0, top - height + gap), top],
                    "title": {"text": NAMES[name]},
                    "automargin": True,
                    "gridcolor": "var(--grid)",
                    "linecolor": "var(--line)",
                    "zeroline": False,
                    "nticks": 4,
                    **(
                        {"range": [-0.05, 1.05]}
                        if name == "supernet_skips"
                        else {"rangemode": "tozero"}
                    ),
                }
            }
        )
    last = "" if len(rows) == 1 else str(len(rows))
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title_text="epoch", rangemode="tozero", anchor=f"y{last}")
    return figure


def choices(history: ChoicesHistory, part: Part) -> go.Figure:
    """Mean probability of each option of a part after each epoch."""
    figure = base("epoch", "mean probability")
    rows = means(history, part)
    step = max(1, math.ceil(len(rows) / EPOCHS))
    shown = sorted({*range(0, len(rows), step), len(rows) - 1})
    order = sorted(range(len(part.options)), key=lambda o: -rows[-1][o])[:LINES]
    for option in order:
        figure.add_scatter(
            x=[number + 1 for number in shown],
            y=[rows[number][option] for number in shown],
            mode="lines" if len(rows) > 1 else "markers",
            line={
                "color": f"var(--{HUES[option % len(HUES)]})",
                "dash": DASHES[option // len(HUES) % len(DASHES)],
                "width": 2,
            },
            hovertemplate="epoch %{x}: %{y:.3f}<extra>" + safe(part.options[option]) + "</extra>",
            name=safe(shorten(part.options[option], 30)),
        )
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    return figure


def last(history: ChoicesHistory, part: Part) -> go.Figure:
    """The last probabilities of each group of a part, as bars of length 1."""
    rows = history.epochs[-1]
    groups = part.groups[:ROWS]
    figure = base("probability", "", barmode="stack", bargap=0.25, legend_traceorder="normal")
    for option, name in enumerate(part.options):
        figure.add_bar(
            x=[rows[group][option] for group in groups],
            y=[safe(shorten(group, 24)) for group in groups],
            orientation="h",
            marker={
                "color": f"var(--{HUES[option % len(HUES)]})",
                "line": {"color": "var(--paper)", "width": 1},
                "pattern": {
                    "shape": PATTERNS[option // len(HUES) % len(PATTERNS)],
                    "fillmode": "replace",
                    "size": 6,
                },
            },
            hovertemplate="%{y}: %{x:.3f}<extra>" + safe(shorten(name, 60)) + "</extra>",
            name=safe(shorten(name, 30)),
        )
    figure.update_xaxes(range=[0, 1.01])
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return figure


def scores(data: ReportData) -> go.Figure:
    """The scores of search and control: a point each, spread in height, and the median."""
    figure = base(f"score: {data.metric}", "")
    names = []
    for place, kind in enumerate((Kind.CONTROL, Kind.SEARCH)):
        found = sorted(valued(data, kind), key=lambda pair: pair[1])
        names.append(f"{STYLES[kind].name} ({len(found):,})")
        if not found:
            continue
        step = max(1.0, len(found) / POINTS)
        chosen = [found[int(i * step)] for i in range(min(POINTS, len(found)))]
        colour = f"var(--{STYLES[kind].colour})"
        figure.add_scatter(
            x=[value for _, value in chosen],
            y=[place + 0.5 * (n * GOLDEN % 1 - 0.5) for n in range(len(chosen))],
            text=[f"trial {trial.number}" for trial, _ in chosen],
            mode="markers",
            marker={"color": colour, "size": 6, "opacity": 0.6},
            hovertemplate="%{text}: %{x:.4f}<extra></extra>",
            showlegend=False,
        )
        figure.add_scatter(
            x=[median(value for _, value in found)] * 2,
            y=[place - 0.35, place + 0.35],
            mode="lines",
            line={"color": colour, "width": 2.5},
            hovertemplate="median %{x:.4f}<extra></extra>",
            showlegend=False,
        )
    figure.update_yaxes(tickvals=[0, 1], ticktext=names, range=[-0.5, 1.5], showgrid=False)
    figure.update_layout(showlegend=False)
    return figure


MARKS = (
    (RANK_CHECK, "rank check, drawn at random", "purple", "circle"),
    ("finalist", "finalists, chosen by score", "green", "triangle-up"),
)


def ranks(data: ReportData, found: SupernetSection) -> go.Figure:
    """The trained value of networks against the supernet's score."""
    figure = base(f"score: {data.metric}", f"{data.metric}, trained")
    for operation, name, colour, symbol in MARKS:
        pairs: Sequence[tuple[object, float, float]] = found.pairs[operation]
        if not pairs:
            continue
        figure.add_scatter(
            x=[score for _, score, _ in pairs],
            y=[value for _, _, value in pairs],
            text=[f"trial {trial.number}" for trial, _, _ in found.pairs[operation]],
            mode="markers",
            marker={"color": f"var(--{colour})", "symbol": symbol, "size": 9, "opacity": 0.85},
            hovertemplate="%{text}: score %{x:.4f}, trained %{y:.4f}<extra></extra>",
            name=name,
        )
    return figure

"""A comparison of searches, on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from kinase.api.trial import Kind
from kinase.report import figures, fronts, styles, theme
from kinase.report.anytime import (
    COSTS,
    Curve,
    Reach,
    band,
    common,
    curve,
    middle,
    quantile,
    reach,
)
from kinase.report.control import ended, sign
from kinase.report.data import ReportData
from kinase.report.gather import COST_NAMES
from kinase.report.groups import Group, Incomparable, differences, grouped, seed_of, under_way
from kinase.report.html import fill
from kinase.report.ranks import corrected, needed, paired

FEW = 5
"""With fewer runs than this in a group, each run is drawn instead of the quartiles."""
COLOURS = ("blue", "green", "purple", "gold", "ink")
DASHES = ("solid", "dashdot", "dot", "longdash", "longdashdot")
REFERENCE = ("orange", "dash")
"""Colour and dash of the reference, as for random search in a single report."""
PARTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Shares of the common cost for the table of medians."""
FRACTIONS = ("device seconds",)
"""Units of cost that are not integers."""


def document(runs: Sequence[tuple[str, ReportData]], reference: str | None = None) -> str:
    """The page for some runs with the labels of their groups; see `render_comparison`."""
    groups = grouped(runs)
    everything = [run for group in groups for run in group.runs]
    if len(everything) < 2:
        raise Incomparable("give two experiments or more; `kinase report` shows one")
    held = _reference(groups, reference)
    first = everything[0]
    curves = {unit: [[curve(run, unit) for run in g.runs] for g in groups] for unit in COSTS}
    tests = _tests(groups, held, curves["epochs"])
    drawn: dict[str, Any] = {}
    if any(each.ys for some in curves["trials"] for each in some):
        drawn["anytime"] = {unit: _figure(groups, held, curves[unit], unit) for unit in COSTS}
    plots = {n: {u: figures.as_json(f) for u, f in each.items()} for n, each in drawn.items()}
    return fill(
        "compare.html",
        ("figures.js",),
        {"figures": plots},
        groups=groups,
        reference=held,
        metric_name=first.metric,
        goal=first.goal,
        facts=[fact for fact in first.summary if all(fact in run.summary for run in everything)],
        results=[
            _result(group, curves["epochs"][i], curves["sample passes"][i])
            for i, group in enumerate(groups)
        ],
        units={unit: _over(groups, held, curves[unit], unit) for unit in COSTS},
        drawn=drawn,
        few=FEW,
        runs=[
            _run(group, run, {unit: curves[unit][i][j] for unit in COSTS})
            for i, group in enumerate(groups)
            for j, run in enumerate(group.runs)
        ],
        open_runs=sum(under_way(run) for run in everything),
        differences=differences(groups),
        tests=tests,
        words={group.label: found for group, found in tests},
        by_volume=by_volume(groups),
        seeds_needed=needed(len(groups) - 1),
    )


def _reference(groups: Sequence[Group], label: str | None) -> Group:
    """The reference group. Default: the first of random search, or the first."""
    if label is not None:
        for group in groups:
            if group.label == label:
                return group
        known = "; ".join(group.label for group in groups)
        raise Incomparable(f"there is no group {label!r} to compare with; the groups are: {known}")
    random = [g for g in groups if g.runs[0].spec.get("strategy", {}).get("type") == "Random"]
    return (random or list(groups))[0]


Curves = Sequence[Curve]
"""Final values of the runs of a group, in order."""


# Numbers for the tables


def _spanned(values: Sequence[float | None], show: Any, sign: float = 1.0) -> str:
    """The median, with minimum and maximum if they differ."""
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    least, most = show(min(known)), show(max(known))
    mid = show(middle(values, sign))
    return mid if least == most == mid else f"{mid} ({least} to {most})"


def _result(group: Group, epochs: Curves, passes: Curves) -> dict[str, Any]:
    """A group's row in the table of results."""
    finals = [each.final for each in epochs]
    s = sign(group.runs[0])
    winners = [_winner(run) for run in group.runs]
    return {
        "group": group,
        "without": finals.count(None),
        "epochs": _spanned([each.spent for each in epochs], theme.quantity),
        "passes": _spanned([each.spent for each in passes], theme.quantity),
        "median": middle(finals, s),
        "value": _spanned(finals, theme.metric, s),
        "validation": _spanned([v for v, _ in winners if v is not None], theme.metric, s),
        "test": _spanned([v for _, v in winners if v is not None], theme.metric, s),
    }


def _winner(run: ReportData) -> tuple[float | None, float | None]:
    """The winner's values on the validation and test splits, fully trained."""
    if run.winner is None:
        return None, None
    tested = f"test_{run.metric.removeprefix('val_')}"
    return run.winner.metrics.get(run.metric), run.winner.test.get(tested)


def _over(
    groups: Sequence[Group], held: Group, curves: Sequence[Curves], unit: str
) -> dict[str, Any]:
    """The tables for one unit of cost."""
    end = common([each for some in curves for each in some])
    at = ticks(end, unit)
    s = sign(held.runs[0])
    seeded = {
        group.label: [(seed_of(run), each) for run, each in zip(group.runs, some, strict=True)]
        for group, some in zip(groups, curves, strict=True)
    }
    one_shot = any(ended(run, Kind.SUPERNET) for group in groups for run in group.runs)
    kinds = {k: name for k, name in COST_NAMES.items() if one_shot or k is not Kind.SUPERNET}
    return {
        "common": end,
        "parts": [
            f"{cost:.3g}" if unit in FRACTIONS and cost < 100 else theme.quantity(cost)
            for cost in at
        ],
        "medians": [
            (group, [middle([each.at(cost) for each in some], s) for cost in at])
            for group, some in zip(groups, curves, strict=True)
        ],
        "reach": {
            label: _reached(reach(some, seeded[held.label])) for label, some in seeded.items()
        },
        "spent": [(group, _spent(group, unit, kinds)) for group in groups],
    }


def ticks(end: float, unit: str) -> list[float]:
    """Costs up to `end` for the table of medians, as integers if the unit is counted."""
    costs = [part * end for part in PARTS]
    return costs if unit in FRACTIONS else sorted({float(max(1, round(cost))) for cost in costs})


def by_volume(groups: Sequence[Group]) -> bool:
    """Whether all runs share several objectives."""
    found = {tuple(fronts.objectives(run)) for group in groups for run in group.runs}
    return len(found) == 1 and len(found.pop()) > 1


def _tests(groups: Sequence[Group], held: Group, curves: Sequence[Curves]) -> list[Any]:
    """Each group against the reference at the common cost in epochs: paired by seed, by ranks,
    corrected for the number of groups. Runs that share several objectives are compared by the
    hypervolume of their fronts."""
    s = sign(held.runs[0])
    if by_volume(groups):
        frame = fronts.frame_of(*(run for group in groups for run in group.runs))
        if frame is not None:
            s = 1.0
            curves = [[fronts.volumes(r, "epochs", frame) for r in g.runs] for g in groups]
    end = common([each for some in curves for each in some])

    def values(place: int) -> dict[int, float]:
        found: dict[int, list[float]] = {}
        for run, each in zip(groups[place].runs, curves[place], strict=True):
            if (v := each.at(end)) is not None:
                found.setdefault(seed_of(run), []).append(s * v)
        # a repeated seed forms one pair, in any order of the runs
        return {seed: fmean(some) for seed, some in found.items()}

    theirs = values(groups.index(held))
    others = [place for place, group in enumerate(groups) if group is not held]
    found = corrected([paired(values(place), theirs) for place in others])
    return [(groups[place], each) for place, each in zip(others, found, strict=True)]


def _reached(found: Reach) -> dict[str, Any]:
    def show(share: float | None) -> str:
        return "not reached" if share is None else f"{share:.2f}"

    return {
        "share": found.median,
        "median": show(found.median) if found.shares else "–",
        "each": ", ".join(map(show, found.shares)),
        "reached": len(found.shares) - found.shares.count(None),
        "of": len(found.shares),
        "pairs": found.paired,
        "seeds": ", ".join(map(str, found.seeds)),
    }


def _spent(group: Group, unit: str, kinds: Mapping[Kind, str]) -> dict[str, float]:
    """Cost of all runs of a group, by kind of trial."""
    cost_of = COSTS[unit][1]
    return {
        name: sum(cost_of(trial) for run in group.runs for trial in ended(run, kind))
        for kind, name in kinds.items()
    }


def _run(group: Group, run: ReportData, curves: dict[str, Curve]) -> dict[str, Any]:
    """A run's row."""
    validation, test = _winner(run)
    return {
        "group": group.label,
        "run": run,
        "seed": seed_of(run),
        "spent": {unit: each.spent for unit, each in curves.items()},
        "final": curves["trials"].final,
        "validation": validation,
        "test": test,
    }


# The figure


def _figure(groups: Sequence[Group], held: Group, curves: Sequence[Curves], unit: str) -> go.Figure:
    """Best value so far of each group: the median, and the quartiles or the single runs."""
    title = COSTS[unit][0]
    figure = styles.base(title, groups[0].runs[0].metric)
    figure.update_layout(legend_itemwidth=48)  # space for a dash
    others = [group for group in groups if group is not held]
    # bands first, so that no line is below one
    for layer in (_bands, _singles, _medians):
        for group, some in zip(groups, curves, strict=True):
            place = others.index(group) if group is not held else None
            layer(figure, group, some, _style(place), title)
    figure.update_yaxes(range=_range(curves))
    figure.update_xaxes(rangemode="tozero")
    return figure


def _range(groups: Sequence[Curves]) -> styles.Range | None:
    """The axis starts at the worst group's value after a tenth of its cost; earlier values are far
    below."""
    valued = [[each for each in curves if each.ys] for curves in groups]
    s = groups[0][0].sign
    late = [
        [s * each.steps(max(each.spent / 10, each.xs[0]))[1][0] for each in some] for some in valued
    ]
    lows = [low for values in late if (low := quantile(values, 0.25)) is not None]
    highs = [s * each.ys[-1] for some in valued for each in some]
    return styles.padded(s, min(lows), max(highs)) if lows else None


def _style(place: int | None) -> tuple[str, str]:
    """Colour and dash; groups also differ in the dash, as long as there are dashes."""
    if place is None:
        return REFERENCE
    turn = place // len(COLOURS)
    return COLOURS[place % len(COLOURS)], DASHES[(place + turn) % len(DASHES)]


def _bands(
    figure: go.Figure, group: Group, curves: Curves, style: tuple[str, str], title: str
) -> None:
    if len(curves) < FEW:
        return
    points = [(x, low, high) for x, low, _, high in band(curves) if low is not None]
    for side, fill_ in ((1, "none"), (2, "tonexty")):
        figure.add_scatter(
            x=[point[0] for point in points],
            y=[point[side] for point in points],
            mode="lines",
            line={"width": 0, "shape": "hv", "color": f"var(--{style[0]})"},
            fill=fill_,
            fillcolor=f"var(--{style[0]}Tint)",
            hoverinfo="skip",
            legendgroup=group.label,
            showlegend=False,
        )


def _singles(
    figure: go.Figure, group: Group, curves: Curves, style: tuple[str, str], title: str
) -> None:
    """Thin lines for each run; if there is a band, only beyond its end."""
    if len(curves) == 1:
        return
    begin = 0.0 if len(curves) < FEW else common(curves)
    xs: list[float | None] = []
    ys: list[float | None] = []
    texts: list[str] = []
    for run, each in zip(group.runs, curves, strict=True):
        x, y = each.steps(begin)
        if len(x) > 1:
            xs += [*x, None]
            ys += [*y, None]
            texts += [f"{styles.safe(group.label)}, seed {seed_of(run)}"] * (len(x) + 1)
    figure.add_scatter(
        x=xs,
        y=ys,
        text=texts,
        mode="lines",
        line={"width": 1, "shape": "hv", "color": f"var(--{style[0]})"},
        opacity=0.45,
        hovertemplate="%{text}<br>%{x:,.0f} " + title + "<br>best %{y:.4f}<extra></extra>",
        legendgroup=group.label,
        showlegend=False,
    )


def _medians(
    figure: go.Figure, group: Group, curves: Curves, style: tuple[str, str], title: str
) -> None:
    points = [(x, low, mid, high) for x, low, mid, high in band(curves) if mid is not None]
    open_runs = f", {group.under_way} of {len(curves)} under way" if group.under_way else ""
    quartiles = "<br>quartiles %{text}" if len(curves) >= FEW else ""
    word = "median" if len(curves) > 1 else "best"
    figure.add_scatter(
        x=[point[0] for point in points],
        y=[point[2] for point in points],
        text=[f"{theme.metric(low)} to {theme.metric(high)}" for _, low, _, high in points],
        mode="lines" if len(points) > 1 else "markers",
        line={"width": 2.5, "shape": "hv", "color": f"var(--{style[0]})", "dash": style[1]},
        marker={"color": f"var(--{style[0]})"},
        hovertemplate=f"{styles.safe(group.label)}<br>%{{x:,.0f}} {title}<br>{word} %{{y:.4f}}"
        f"{quartiles}<extra></extra>",
        legendgroup=group.label,
        name=styles.safe(theme.shorten(group.label, 60)) + open_runs,
    )

"""What the dashboards are made of: queries, panels with our manners, variables, links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
FLEET, EXPERIMENT = "kinase-fleet", "kinase-experiment"
"""UIDs, by which the dashboards link to each other."""
GOOD, FAIR, BAD, PLAIN = "green", "orange", "red", "text"
Colours = Mapping[str, str]
OUTCOMES: Colours = {
    "Succeeded": GOOD,
    "Stopped": "blue",
    "Infeasible": "purple",
    "Failed": BAD,
}
PHASES: Colours = {
    "Pending": FAIR,
    "Running": GOOD,
    "Searching": "blue",
    "Finalists": "purple",
    "Suspended": "#808080",
    "Succeeded": GOOD,
    "Failed": BAD,
}
Query = prometheus.Dataquery
Panels = Sequence[Builder[model.Panel]]
Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from which value on which colour; the first has no value."""


def query(expr: str, legend: str = "") -> Query:
    """A query over the dashboard's time range."""
    return prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").range()


def now(expr: str, legend: str = "") -> Query:
    """A query of the range's end."""
    return prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").instant()


def row_of(expr: str) -> Query:
    """A query of the range's end whose labels become columns."""
    return now(expr).format(PromQueryFormat.TABLE)


def _lettered(queries: Sequence[Query]) -> list[Query]:
    return [q.ref_id(chr(ord("A") + i)).datasource(SOURCE) for i, q in enumerate(queries)]


def _steps(steps: Steps) -> build.ThresholdsConfig:
    return (
        build.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value, colour) for value, colour in steps])
    )


def _colour(name: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": name})


P = TypeVar("P", timeseries.Panel, stat.Panel, heatmap.Panel, statetimeline.Panel, table.Panel)


def _panel(
    panel: P, title: str, description: str, queries: Sequence[Query], span: int, height: int
) -> P:
    """What every panel has."""
    targets = _lettered(queries)
    return (
        panel.title(title)
        .description(description)
        .datasource(SOURCE)
        .targets(targets)  # type: ignore[arg-type]
        .span(span)
        .height(height)
    )


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    span: int = 8,
    stacked: bool = False,
    stepped: bool = False,
    most: float | None = None,
    least: float | None = 0,
    steps: Steps = (),
    colours: Colours = MappingProxyType({}),
) -> timeseries.Panel:
    """Values over time, with the last and the largest of each series in the legend."""
    panel = (
        _panel(timeseries.Panel(), title, description, queries, span, 8)
        .unit(unit)
        .line_width(1 if stacked else 2)
        .fill_opacity(40 if stacked else 0)
        .show_points(kinds.VisibilityMode.NEVER)
        .span_nulls(120_000)
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.TABLE)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(kinds.TooltipDisplayMode.MULTI)
            .sort(kinds.SortOrder.DESCENDING)
        )
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    if stepped:
        panel.line_interpolation(kinds.LineInterpolation.STEP_AFTER)
    if least is not None:
        panel.min(least)
    if most is not None:
        panel.max(most)
    if steps:
        panel.thresholds(_steps(steps)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(kinds.GraphTresholdsStyleMode.DASHED)
        )
    for name, colour in colours.items():
        panel.override_by_name(name, [_colour(colour)])
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    steps: Steps = ((None, PLAIN),),
    span: int = 3,
    named: bool = False,
    decimals: int | None = None,
) -> stat.Panel:
    """One value, large; with `named` the series' name instead."""
    mode = kinds.BigValueTextMode
    panel = (
        _panel(stat.Panel(), title, description, [query], span, 4)
        .unit(unit)
        .no_value("–")
        .thresholds(_steps(steps))
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .text_mode(mode.NAME if named else mode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    return panel if decimals is None else panel.decimals(decimals)


def heat(title: str, description: str, unit: str, expr: str, *, span: int = 8) -> heatmap.Panel:
    """A histogram over time."""
    target = query(expr, "{{le}}").format(PromQueryFormat.HEATMAP)
    return (
        _panel(heatmap.Panel(), title, description, [target], span, 8)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(kinds.AxisPlacement.LEFT))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .exponent(0.5)
            .steps(32)
            .reverse(False)
            .fill("dark-blue")
        )
        .show_legend()
        .show_tooltip()
    )


def states(
    title: str,
    description: str,
    texts: dict[str, tuple[str, str]],
    *queries: Query,
    span: int = 24,
) -> statetimeline.Panel:
    """Which of some states each series is in; `texts` has word and colour by value."""
    results = {
        value: model.ValueMappingResult(text, colour, index=i)
        for i, (value, (text, colour)) in enumerate(texts.items())
    }
    return (
        _panel(statetimeline.Panel(), title, description, queries, span, 6)
        .mappings([model.ValueMap(results)])
        .show_value(kinds.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.8)
        .fill_opacity(70)
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )


def rows(
    title: str, description: str, columns: dict[str, tuple[Query, str]], *, link: str, height: int
) -> table.Panel:
    """A table with a line for each namespace and experiment.

    Args:
        title: of the panel.
        description: of the panel.
        columns: query and unit by the column's name; the name of a label of a query, with no
            unit, is a column of text.
        link: where an experiment's name leads to.
        height: in units of the grid.
    """
    letters = {name: f"Value #{chr(ord('A') + i)}" for i, name in enumerate(columns)}
    text = [name for name, (_, unit) in columns.items() if not unit]
    renamed = {letter: name for name, letter in letters.items() if name not in text}
    hidden = {"Time": True, **{letters[name]: True for name in text}}
    panel = (
        _panel(table.Panel(), title, description, [q for q, _ in columns.values()], 24, height)
        .show_header(True)
        .cell_height(kinds.TableCellHeight.SM)
        .with_transformation(model.DataTransformerConfig("merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                "organize",
                options={
                    "excludeByName": hidden,
                    "indexByName": {"namespace": 0, "experiment": 1, **dict.fromkeys(text, 2)},
                    "renameByName": renamed,
                },
            )
        )
        .override_by_name(
            "experiment",
            [model.DynamicConfigValue("links", [{"title": "Open the experiment", "url": link}])],
        )
    )
    for name, (_, unit) in columns.items():
        if unit:
            panel.override_by_name(name, [model.DynamicConfigValue("unit", unit)])
    return panel


def assemble(
    title: str,
    uid: str,
    description: str,
    variables: Sequence[build.QueryVariable],
    sections: Mapping[str, Panels],
) -> build.Dashboard:
    """A dashboard of rows of panels that links to the other one."""
    made = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["kinase"])
        .readonly()
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("Kinase")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["kinase"])
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(
            build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )
    for variable in variables:
        made.with_variable(variable)
    numbers = count(1)
    for name, panels in sections.items():
        made.with_row(build.Row(name).id(next(numbers)))
        for panel in panels:
            built = panel.build()
            built.id_val = next(numbers)
            made.with_panel(panel)
    return made


def choice(name: str, label: str, values: str, *, several: bool = False) -> build.QueryVariable:
    """A variable whose values are a label's."""
    made = (
        build.QueryVariable(name)
        .label(label)
        .query(values)
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    if not several:
        return made
    everything = model.VariableOption(True, "All", "$__all")
    return made.multi(True).include_all(True).all_value(".*").current(everything)


def quantile(share: float, histogram: str, which: str = "", by: str = "") -> str:
    """A quantile of a histogram, over the scrapes that a point of a graph needs."""
    names = f"le, {by}" if by else "le"
    window = f"{histogram}_bucket{{{which}}}[$__rate_interval]"
    return f"histogram_quantile({share:g}, sum by ({names}) (rate({window})))"

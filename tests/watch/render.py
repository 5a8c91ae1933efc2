"""`python -m tests.watch.render [MINUTES]`: the pictures of the dashboards in the docs.

Starts a test cluster, has searches run on it for some minutes under the eyes of a Prometheus, asks
it what the panels of the committed JSON ask, and draws the answers. Grafana draws the same panels
in its own way; this shows what is on them.
"""

from __future__ import annotations

import html
import math
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright
from plotly.offline import get_plotlyjs

from tests.cluster import system
from tests.cluster.fixtures import a_bucket
from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import Cluster, ControlPlane
from tests.cluster.lab.node import Node
from tests.cluster.lab.s3 import VersityGW
from tests.watch import dashboards
from tests.watch.prometheus import Prometheus, configuration

IMAGES = Path(__file__).parents[2] / "docs/img"
WIDTH, CELL = 1500, 34
"""Pixels of a dashboard's width, and of a unit of its grid's height."""
COLOURS = {
    "green": "#56a64b",
    "blue": "#3274d9",
    "orange": "#ff780a",
    "red": "#e02f44",
    "purple": "#8f3bb8",
    "text": "#24292e",
}
PALETTE = ["#56a64b", "#f2a900", "#3274d9", "#ff780a", "#e02f44", "#8f3bb8", "#1f9e9e"]
STYLE = f"""
* {{ box-sizing: border-box }}
body {{ margin: 0; padding: 12px; width: {WIDTH}px; background: #f4f5f5; color: #24292e;
  font: 13px/1.4 Inter, 'DejaVu Sans', sans-serif }}
h1 {{ font-size: 18px; margin: 2px 4px 10px; font-weight: 600 }}
h1 small {{ color: #6e7781; font-weight: 400; font-size: 13px; margin-left: 12px }}
main {{ display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: {CELL}px; gap: 6px }}
section {{ background: #fff; border: 1px solid #dcdfe3; border-radius: 3px; overflow: hidden;
  padding: 6px 8px }}
section.row {{ background: none; border: 0; font-weight: 600; font-size: 15px; padding: 8px 2px 0 }}
h2 {{ font-size: 13px; font-weight: 600; margin: 0 }}
.number {{ font-size: 26px; font-weight: 500; text-align: center; line-height: {4 * CELL - 20}px }}
table {{ border-collapse: collapse; width: 100%; margin-top: 8px }}
td, th {{ text-align: left; padding: 5px 10px; border-bottom: 1px solid #eceef0 }}
th {{ color: #3274d9; font-weight: 600 }}
"""


# -- something to look at ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Search:
    namespace: str
    name: str
    trials: int
    parallelism: int
    depth: int
    seconds: float
    fault: str = ""

    def spec(self) -> dict[str, Any]:
        fault = [{"name": "FAKE_FAULT", "value": self.fault}] if self.fault else []
        return {
            "space": {"type": "Chain", "chain": {"maxDepth": self.depth, "widths": [4, 8, 16]}},
            "strategy": {"type": "Evolution", "evolution": {"population": 10, "sample": 4}},
            "budget": {
                "trials": self.trials,
                "parallelism": self.parallelism,
                "deviceHours": 0.4,
                "duration": "15m",
            },
            "trialTemplate": {
                "image": system.FAKE,
                "maxRetries": 0,
                "resources": {"limits": {"nvidia.com/gpu": 1}},
                "env": [
                    {"name": "FAKE_EPOCH_SECONDS", "value": str(self.seconds)},
                    {"name": "FAKE_FAULT_TRIAL", "value": "5"},
                    *fault,
                ],
            },
        }


SEARCHES = (
    _Search("vision", "cifar-chain", 240, 4, 10, 2, "infeasible"),
    _Search("vision", "digits", 24, 3, 5, 0.7),
    _Search("speech", "keywords", 160, 4, 8, 2.5, "exit-always"),
)


@contextmanager
def _kinase(folder: Path) -> Iterator[tuple[Cluster, system.Operator, Any]]:
    with ExitStack() as stack:
        plane = ControlPlane(folder / "cluster")
        stack.callback(plane.stop)
        plane.start()
        node = Node(plane, folder / "node", resources={"nvidia.com/gpu": 8}, back_off=1)
        stack.callback(node.stop)
        node.start()
        server = VersityGW(folder / "s3")
        stack.callback(server.stop)
        server.start()
        system.install_crds(plane)
        system.install_rights(plane)
        system.put_images(node)
        operator = system.Operator(plane, folder / "operator")
        stack.callback(operator.stop)
        yield plane, operator.start(), server


def _search(cluster: Cluster, server: Any) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    buckets = {}
    for search in SEARCHES:
        space = search.namespace
        if space not in buckets:
            body = {"metadata": {"name": space, "labels": labels}}
            cluster.api.post("/api/v1/namespaces", body)
            buckets[space] = a_bucket(cluster, space, server)
        body = system.experiment(space, buckets[space], search.name, **search.spec())
        system.create(cluster, body)
        time.sleep(8)


# -- drawing -------------------------------------------------------------------------------------


def number(value: float, unit: str, decimals: int | None = None) -> str:
    """A value as Grafana writes it in a unit."""
    if math.isnan(value):
        return "–"
    match unit:
        case "s":
            sizes = ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))
            size, name = next((s for s in sizes if abs(value) >= s[0]), (1, "s"))
            return f"{value / size:.3g} {name}"
        case "bytes":
            return f"{value / 2**20:.4g} MiB"
        case "percentunit":
            return f"{100 * value:.3g} %"
        case "ops" | "wps":
            return f"{value:.3g}/s"
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _name(legend: str, labels: dict[str, str]) -> str:
    if legend == "__auto":
        return ", ".join(v for k, v in sorted(labels.items()) if k != "__name__") or "value"
    for label, text in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", text)
    return legend


def _chart(panel: dict[str, Any], view: dashboards.View) -> go.Figure | None:
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    defaults = panel["fieldConfig"]["defaults"]
    fixed = {
        override["matcher"]["options"]: COLOURS.get(given["value"]["fixedColor"], "#808080")
        for override in panel["fieldConfig"]["overrides"]
        for given in override["properties"]
        if given["id"] == "color"
    }
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    figure, unit, used = go.Figure(), defaults["unit"], 0
    top = 0.0
    for target in panel["targets"]:
        for labels, points in view.series(target):
            name = _name(target["legendFormat"], labels)
            colour = fixed.get(name)
            if colour is None:
                colour, used = PALETTE[used % len(PALETTE)], used + 1
            values = [value for _, value in points]
            last = next(v for v in reversed(values) if not math.isnan(v))
            top = max(top, *(v for v in values if not math.isnan(v)))
            figure.add_scatter(
                x=[datetime.fromtimestamp(at, UTC) for at, _ in points],
                y=values,
                name=f"{name}  <b>{number(last, unit)}</b>",
                mode="lines",
                line={
                    "color": colour,
                    "width": 1 if stacked else 2,
                    "shape": "hv" if custom.get("lineInterpolation") == "stepAfter" else "linear",
                },
                stackgroup="all" if stacked else None,
            )
    if not figure.data:
        return None
    axis: dict[str, Any] = {"tickformat": ".0%"} if unit == "percentunit" else {}
    if unit == "bytes":
        axis = {"tickformat": ".3s", "ticksuffix": "B"}
    if unit == "s":
        axis = {"ticksuffix": " s"}
    if "min" in defaults:
        axis |= {"rangemode": "tozero"}
        if top == 0 and not stacked:
            axis |= {"range": [0, 1]}
    if "max" in defaults:
        axis |= {"range": [0, defaults["max"] * 1.03]}
    figure.update_yaxes(**axis)
    return figure


def _heatmap(panel: dict[str, Any], view: dashboards.View) -> go.Figure | None:
    found = view.series(panel["targets"][0])
    found.sort(key=lambda series: float(series[0]["le"]))
    if not found:
        return None
    times = sorted({at for _, points in found for at, _ in points})
    below = [0.0] * len(times)
    bands, names = [], []
    for labels, points in found:
        at = dict(points)
        upto = [at.get(moment, 0.0) for moment in times]
        bands.append([max(0.0, u - b) or None for u, b in zip(upto, below, strict=True)])
        bound = float(labels["le"])
        names.append("more" if math.isinf(bound) else f"≤ {number(bound, 's')}")
        below = upto
    used = [i for i, band in enumerate(bands) if any(band)]
    low, high = max(0, min(used) - 1), max(used) + 2
    moments = [datetime.fromtimestamp(at, UTC) for at in times]
    return go.Figure(
        go.Heatmap(
            x=moments, y=names[low:high], z=bands[low:high], colorscale="Blues", showscale=False
        )
    )


def _states(panel: dict[str, Any], view: dashboards.View) -> go.Figure | None:
    rows: dict[str, dict[float, float]] = {}
    for target in panel["targets"]:
        for labels, points in view.series(target):
            rows[_name(target["legendFormat"], labels)] = dict(points)
    if not rows:
        return None
    times = sorted({at for points in rows.values() for at in points})
    names = sorted(rows, reverse=True)
    scale = [[0, COLOURS["orange"]], [1, COLOURS["green"]]]
    figure = go.Figure(
        go.Heatmap(
            x=[datetime.fromtimestamp(at, UTC) for at in times],
            y=names,
            z=[[rows[name].get(at) for at in times] for name in names],
            colorscale=scale,
            zmin=0,
            zmax=1,
            showscale=False,
            ygap=6,
        )
    )
    figure.update_yaxes(automargin=True)
    return figure


def _stat(panel: dict[str, Any], view: dashboards.View) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    found = view.series(panel["targets"][0])
    if not found:
        return f'<div class="number">{defaults["noValue"]}</div>'
    labels, points = found[0]
    value = points[-1][1]
    colour = COLOURS["text"]
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = COLOURS.get(step["color"], step["color"])
    text = number(value, defaults["unit"], defaults.get("decimals"))
    if panel["options"]["textMode"] == "name":
        text = _name(panel["targets"][0]["legendFormat"], labels)
    return f'<div class="number" style="color:{colour}">{html.escape(text)}</div>'


def _table(panel: dict[str, Any], view: dashboards.View) -> str:
    organize = panel["transformations"][1]["options"]
    units = {
        override["matcher"]["options"]: given["value"]
        for override in panel["fieldConfig"]["overrides"]
        for given in override["properties"]
        if given["id"] == "unit"
    }
    lines: dict[tuple[str, str], dict[str, str]] = {}
    columns = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    for target in panel["targets"]:
        letter = f"Value #{target['refId']}"
        for labels, points in view.series(target):
            line = lines.setdefault((labels["namespace"], labels["experiment"]), {})
            line.update(labels)
            if letter not in organize["excludeByName"]:
                name = organize["renameByName"][letter]
                line[name] = number(points[-1][1], units[name])
                if name not in columns:
                    columns.append(name)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(line.get(n, '–'))}</td>" for n in columns) + "</tr>"
        for _, line in sorted(lines.items())
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _figure(figure: go.Figure, view: dashboards.View, height: int) -> str:
    figure.update_layout(
        height=height,
        margin={"l": 50, "r": 10, "t": 8, "b": 20},
        template="simple_white",
        font={"size": 11, "family": "Inter, DejaVu Sans, sans-serif"},
        legend={"orientation": "h", "y": -0.14, "x": 0, "font": {"size": 11}},
        showlegend=figure.data[0].type == "scatter",
    )
    span = [datetime.fromtimestamp(at, UTC) for at in (view.start, view.end)]
    figure.update_xaxes(showgrid=True, gridcolor="#eceef0", range=span, tickformat="%H:%M:%S")
    figure.update_yaxes(showgrid=True, gridcolor="#eceef0")
    return str(figure.to_html(full_html=False, include_plotlyjs=False))


def page(name: str, view: dashboards.View, caption: str) -> str:
    """A dashboard as one HTML page."""
    dashboard, cells = dashboards.load(name), []
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        place = (
            f"grid-column: {at['x'] + 1} / span {at['w']}; grid-row: {at['y'] + 1} / span {at['h']}"
        )
        if panel["type"] == "row":
            cells.append(f'<section class="row" style="{place}">{panel["title"]}</section>')
            continue
        match panel["type"]:
            case "stat":
                body = _stat(panel, view)
            case "table":
                body = _table(panel, view)
            case kind:
                draw = {"heatmap": _heatmap, "state-timeline": _states, "timeseries": _chart}[kind]
                made = draw(panel, view)
                height = at["h"] * (CELL + 6) - 44
                body = "no data" if made is None else _figure(made, view, height)
        title = html.escape(panel["title"])
        cells.append(f'<section style="{place}"><h2>{title}</h2>{body}</section>')
    title = html.escape(dashboard["title"])
    return (
        f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script>"
        f"<h1>{title}<small>{html.escape(caption)}</small></h1><main>{''.join(cells)}</main>"
    )


def _picture(text: str, target: Path, folder: Path) -> None:
    file = folder / f"{target.stem}.html"
    file.write_text(text)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        window.goto(file.as_uri(), timeout=200_000)
        window.wait_for_timeout(1500)
        window.screenshot(path=target, full_page=True)
        browser.close()


def main() -> None:
    """Start everything, wait, draw."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 4
    folder = Path(tempfile.mkdtemp(prefix=f"watch-{secrets.token_hex(2)}-"))
    program = binaries.get("prometheus")
    try:
        with _kinase(folder) as (cluster, operator, server):
            prometheus = Prometheus(program, folder, configuration(cluster, operator)).start()
            try:
                start = time.time()
                _search(cluster, server)
                time.sleep(max(0.0, start + 60 * minutes - time.time()))
                first = SEARCHES[0]
                values = dashboards.variables(
                    first.namespace, first.name, "20s", f"{round(time.time() - start)}s"
                )
                caption = "drawn from the panels' queries; searches of a test cluster"
                pages = {}
                for name in dashboards.NAMES:
                    fleet = {"namespace": ".*"} if name == "fleet" else {}
                    view = dashboards.View(prometheus, start, time.time(), {**values, **fleet}, 2)
                    pages[name] = page(name, view, caption)
            finally:
                prometheus.stop()
        for name, text in pages.items():
            _picture(text, IMAGES / f"dashboard-{name}.png", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

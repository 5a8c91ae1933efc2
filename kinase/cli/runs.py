"""Commands for the runs on this machine: `list`, `trials`, `get`."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinase.cli.common import (
    BAD_INPUT,
    ON_THIS_MACHINE,
    cluster,
    fail,
    open_local,
    refuse,
    shown,
)
from kinase.cli.tables import Column, fitted, lines, room
from kinase.cli_options import Context, Kubeconfig, Namespace, Target, is_local
from kinase.words import counted

if TYPE_CHECKING:
    from kinase.experiment.record import Record
    from kinase.runs import Summary, Unread

app = typer.Typer()

UNREAD = "out of reach"
"""State of a run in a bucket that could not be read."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that starts like this for a formula."""
LONGEST = 60
"""Characters of a text in a table."""


class ListOutput(StrEnum):
    """Forms of `kinase list`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    NAME = "name"


class TrialsOutput(StrEnum):
    """Forms of `kinase trials`."""

    TABLE = "table"
    WIDE = "wide"
    CSV = "csv"
    JSON = "json"


@app.command(name="list")
def list_runs(
    output: Annotated[
        ListOutput, typer.Option("--output", "-o", help="How to print them.")
    ] = ListOutput.TABLE,
) -> None:
    """List the runs on this machine, from any folder, with progress, best value and age.

    Runs in a folder `runs` here or in a parent folder come first, then the most recent ones.
    `kinase get` shows the experiments on a cluster.
    """
    from kinase.runs import Summary, Unread, places, summaries

    found = summaries(places())
    for each in found:
        if isinstance(each, Unread):
            typer.echo(f"warning: {each.why}", err=True)
    # a folder that cannot be read is not a run of this version
    found = [e for e in found if isinstance(e, Summary) or e.place.folder is None]
    if output is ListOutput.JSON:
        typer.echo(json.dumps([_summary(each) for each in found], indent=2))
    elif output is ListOutput.NAME:
        for each in found:
            typer.echo(each.place.name)
    elif not found:
        typer.echo("no run was found on this machine; start one with kinase run FILE", err=True)
    else:
        wide = output is ListOutput.WIDE
        for line in lines(fitted(_columns(found, wide), None if wide else room())):
            typer.echo(line)


def _columns(found: Sequence[Summary | Unread], wide: bool) -> list[Column]:
    """The table of runs. Where two have one name, their places tell them apart."""
    names = [each.place.name for each in found]
    titles = {"NAME": 0, "STATUS": 0, "DONE": 0, "METRIC": 2, "BEST": 0, "AT": 2, "AGE": 1}
    titles["PLACE"] = 0 if len(set(names)) < len(names) else 3
    rows = [_line(each) for each in found]
    if not any(row[5] for row in rows):  # no search has a ladder
        del titles["AT"]
        rows = [row[:5] + row[6:] for row in rows]
    if wide:
        titles |= {"NAMESPACE": 0, "TRIALS": 0, "PAUSED": 0, "NO VALUE": 0, "TIME": 0}
        rows = [[*row, *_more(each)] for row, each in zip(rows, found, strict=True)]
    cells = zip(*rows, strict=True)
    return [Column(title, each, titles[title]) for title, each in zip(titles, cells, strict=True)]


def _line(run: Summary | Unread) -> list[str]:
    from kinase.console import value
    from kinase.runs import Unread

    place = str(run.place.folder or run.place.uri)
    if isinstance(run, Unread):
        return [run.place.name, UNREAD.capitalize(), "-", "-", "-", "", "-", place]
    return [
        run.place.name,
        run.status.capitalize(),
        run.progress,
        run.metric,
        value(run.best) if run.best is None or abs(run.best) < 1e4 else f"{run.best:,.0f}",
        "" if run.rung is None else f"rung {run.rung}",
        "-" if run.age is None else age(run.age),
        place,
    ]


def _more(run: Summary | Unread) -> list[str]:
    from kinase.console import clock
    from kinase.runs import Unread

    if isinstance(run, Unread):
        return [run.place.namespace, "-", "-", "-", "-"]
    counts = map(str, (run.done, run.paused, run.failed))
    return [run.place.namespace, *counts, clock(run.elapsed)]


def _summary(run: Summary | Unread) -> dict[str, Any]:
    from kinase.runs import Unread

    if isinstance(run, Unread):
        named = {"name": run.place.name, "namespace": run.place.namespace}
        return {**named, "status": UNREAD, "message": run.why, "uri": run.place.uri}
    return {
        "name": run.place.name,
        "namespace": run.place.namespace,
        "status": run.status.value,
        "progress": run.progress,
        "trials": run.done,
        "paused": run.paused,
        "withoutValue": run.failed,
        "metric": run.metric,
        "best": run.best,
        "rung": run.rung,
        "elapsedSeconds": round(run.elapsed, 3),
        "ageSeconds": None if run.age is None else round(run.age, 3),
        "uri": run.place.uri,
    }


def age(seconds: float) -> str:
    """An age for people: 42s, 7m, 3h, 12d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


LocalName = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FOLDER|FILE", help="A run of this machine, its folder, or its manifest."
    ),
]


@app.command()
def trials(
    run: LocalName,
    output: Annotated[
        TrialsOutput,
        typer.Option(
            "--output",
            "-o",
            help="table has the columns that fit the terminal, wide all for people, csv and json "
            "every one.",
        ),
    ] = TrialsOutput.TABLE,
) -> None:
    """Print the trials of a run by number: a table, or CSV or JSON for other programs."""
    from kinase.runs import rows

    loop = open_local(run)
    with shown(loop):
        found = rows(loop.state)
    if output is TrialsOutput.JSON:
        typer.echo(json.dumps([_finite(row) for row in found], indent=2))
    elif output is TrialsOutput.CSV:
        typer.echo(as_csv(found), nl=False)
    elif not found:
        typer.echo(f"{run} has no trial yet", err=True)
    else:
        for line in _trials(loop, found, wide=output is TrialsOutput.WIDE):
            typer.echo(line)


FIXED = {
    "trial": 0,
    "kind": 2,
    "outcome": 0,
    "rung": 1,
    "params": 1,
    "epochs": 3,
    "device_seconds": 1,
    "message": 5,
}
"""Columns of trials in a table, in addition to the metrics, with the rank of each: how far, how
good, how long come before all else."""
METRIC_RANK = 4
"""Of the metrics that are not an objective."""
TITLES = {"device_seconds": "SECONDS", "learning_rate_factor": "RATE FACTOR"}
"""Titles that are not the column's name."""
HIDDEN = ("state", "samples", "key", "genotype")
"""Columns that only CSV and JSON have."""


def _trials(loop: Record, found: Sequence[dict[str, Any]], *, wide: bool) -> list[str]:
    """Trials as the lines of a table, as many columns as the terminal holds; all that a person
    reads with `wide`."""
    aims = [aim.metric for aim in loop.aims]
    columns = trial_columns(found, aims, wide=wide)
    return list(lines(fitted(columns, None if wide else room())))


def trial_columns(
    found: Sequence[dict[str, Any]], objectives: Sequence[str], *, wide: bool
) -> list[Column]:
    """The table of trials: the objectives' values stand before those of other metrics.

    Args:
        found: trials, as `kinase.runs.rows` gives them; at least one.
        objectives: metrics of the objective, the main one first.
        wide: whether it has all columns for people.
    """
    names = list(found[0])
    measured = names[names.index("rung") + 1 : names.index("epochs")]
    aims = [name for name in objectives if name in names]
    first = [*aims, *(name for name in measured if name not in (*aims, "params", "macs"))]
    order = [
        "trial",
        "kind",
        "outcome",
        "rung",
        *first,
        "params",
        "macs",
        "epochs",
        "device_seconds",
    ]
    order = [name for name in dict.fromkeys([*order, *names]) if name in names]
    columns = []
    for name in order:
        rank = 0 if name in aims else FIXED.get(name, METRIC_RANK if name in first else None)
        if name in HIDDEN or (rank is None and not wide):
            continue
        if name == "rung" and not any(row["rung"] for row in found):
            continue  # there is no ladder, or no trial was promoted yet
        cells = [_cell(row[name], name) for row in found]
        if name == "outcome":
            cells = [row["outcome"] or row["state"] for row in found]
        if name == "message":
            if not any(row[name] for row in found):
                continue
            cells = ["" if cell == "-" else cell for cell in cells]
        title = TITLES.get(name, name.upper().replace("_", " "))
        columns.append(Column(title, cells, rank or 0, cut=name == "message"))
    texts = [column for column in columns if column.cut]
    return [*(column for column in columns if not column.cut), *texts]


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV with a header; None is empty. A spreadsheet shows each text as it is: one that
    would be a formula there has an apostrophe before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_inert, rows[0] if rows else ["trial"]))
    writer.writerows(map(_inert, row.values()) for row in rows)
    return text.getvalue()


def _inert(cell: Any) -> Any:
    """A cell that no spreadsheet evaluates. The report's download does the same (table.js)."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """None for NaN and infinity, which JSON cannot express."""
    return {
        name: None if isinstance(each, float) and not math.isfinite(each) else each
        for name, each in row.items()
    }


def _cell(found: Any, name: str) -> str:
    if found is None:
        return "-"
    if name == "device_seconds":
        return f"{found:,.1f}"
    if isinstance(found, float):
        return f"{found:.4g}" if abs(found) >= 10 else f"{found:.4f}"
    return f"{found:,}" if isinstance(found, int) else " ".join(str(found).split())[:LONGEST]


@app.command()
def get(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A run of this machine, or else an experiment on the cluster, with its trials; "
            "without it, all experiments on the cluster (`kinase list` has the runs)."
        ),
    ] = None,
    namespace: Namespace = None,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Experiments in all namespaces.")
    ] = False,
    selector: Annotated[
        str, typer.Option("--selector", "-l", help="Label selector, as in kubectl.")
    ] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="wide, json, yaml or name. Default: a table.")
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep running, and show changes.")
    ] = False,
    trials: Annotated[
        int,
        typer.Option(
            min=0,
            help="Trials shown of a run or an experiment, by number: the latest, and on a cluster "
            "those that run; 0 shows all.",
        ),
    ] = 20,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show a run on this machine or an experiment on a cluster with its trials, or all experiments
    on the cluster: progress, best value, remaining time, and problems."""
    target = Target(namespace, context, kubeconfig)
    if name is None or everywhere or selector or not is_local(name, target):
        cluster().run_get(target, name, everywhere, selector, output, watch=watch, trials=trials)
        return
    refuse(f"{name}, {ON_THIS_MACHINE}", {"--watch": watch})
    if output not in ("", "wide", "json", "name"):
        fail(
            f"--output {output!r} is not for a run of this machine; use wide, json or name",
            BAD_INPUT,
        )
    _get_local(name, output, trials)


def _get_local(name: str, output: str, trials: int) -> None:
    loop = open_local(name)
    with shown(loop):
        _show(loop, output, trials)


def _show(loop: Record, output: str, trials: int) -> None:
    from rich.console import Console

    from kinase.console import summary
    from kinase.report.gather import gather
    from kinase.runs import Status, rows, status_of

    status = status_of(loop.store, loop.state)
    if output == "name":
        typer.echo(loop.experiment.metadata.name)
    elif output == "json":
        document = {
            "name": loop.experiment.metadata.name,
            "status": status.value,
            "uri": loop.store.uri,
            "trials": [_finite(row) for row in rows(loop.state)],
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        console = Console()
        summary(console, loop, gather(loop), running=status is Status.RUNNING)
        found = rows(loop.state)
        latest = found[-trials:] if trials else found
        if latest:
            typer.echo()
        for line in _trials(loop, latest, wide=output == "wide") if latest else ():
            typer.echo(line)
        if hidden := len(found) - len(latest):
            typer.echo(f"{counted(hidden, 'more trial')} before these; --trials 0 shows all")

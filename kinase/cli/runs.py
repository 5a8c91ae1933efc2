"""Commands about the runs of this machine: `list`, `trials`, `get`."""

from __future__ import annotations

import csv
import io
import json
import math
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinase.cli.common import BAD_INPUT, ON_THIS_MACHINE, cluster, fail, open_local, refuse
from kinase.cli_options import Context, Kubeconfig, Namespace, Target, is_local

if TYPE_CHECKING:
    from kinase.runs import Summary

app = typer.Typer()

GAP = "   "
"""Between columns, as kubectl has it."""


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
    """List the runs of this machine, from any folder: how far, how good, how old.

    Those in a folder `runs` here or above come first, then those that were run last. `kinase get`
    shows the experiments on a cluster.
    """
    from kinase.runs import places, summarize
    from kinase.store import StoreError

    found: list[Summary] = []
    for place in places():
        if place.folder is None:
            typer.echo(f"{place.uri} is in a bucket; see kinase get {place.name}", err=True)
            continue
        try:
            found.append(summarize(place))
        except StoreError as error:
            typer.echo(f"warning: {error}", err=True)
    if output is ListOutput.JSON:
        typer.echo(json.dumps([_summary(each) for each in found], indent=2))
    elif output is ListOutput.NAME:
        for each in found:
            typer.echo(each.place.name)
    elif not found:
        typer.echo("no run of this machine was found; kinase run FILE begins one", err=True)
    else:
        head = ["NAME", "STATUS", "DONE", "METRIC", "BEST", "AGE", "FOLDER"]
        rows = [_line(each) for each in found]
        if output is ListOutput.WIDE:
            head += ["NAMESPACE", "TRIALS", "NO VALUE", "TIME"]
            rows = [[*row, *_more(each)] for row, each in zip(rows, found, strict=True)]
        _table(head, rows)


def _line(run: Summary) -> list[str]:
    from kinase.console import value

    folder = str(run.place.folder)
    return [
        run.place.name,
        run.status.capitalize(),
        run.progress,
        run.metric,
        value(run.best) if run.best is None or abs(run.best) < 1e4 else f"{run.best:,.0f}",
        age(run.age),
        folder,
    ]


def _more(run: Summary) -> list[str]:
    from kinase.console import clock

    return [run.place.namespace, str(run.done), str(run.failed), clock(run.elapsed)]


def _summary(run: Summary) -> dict[str, Any]:
    return {
        "name": run.place.name,
        "namespace": run.place.namespace,
        "status": run.status.value,
        "progress": run.progress,
        "trials": run.done,
        "withoutValue": run.failed,
        "metric": run.metric,
        "best": run.best,
        "elapsedSeconds": round(run.elapsed, 3),
        "ageSeconds": round(run.age, 3),
        "uri": run.place.uri,
    }


def age(seconds: float) -> str:
    """A time that has passed, for people: 42s, 7m, 3h, 12d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def _table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(GAP.join(cells).rstrip())


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
        typer.Option("--output", "-o", help="csv and json have every column, wide most of them."),
    ] = TrialsOutput.TABLE,
) -> None:
    """Print the trials of a run: a table, or CSV or JSON for other programs."""
    from kinase.runs import rows

    found = rows(open_local(run).state)
    if output is TrialsOutput.JSON:
        typer.echo(json.dumps([_finite(row) for row in found], indent=2))
    elif output is TrialsOutput.CSV:
        typer.echo(as_csv(found), nl=False)
    elif not found:
        typer.echo(f"{run} has no trial yet", err=True)
    else:
        hidden = {"samples", "fidelity", "message", "key", "genotype"}
        if output is TrialsOutput.TABLE:
            hidden |= {"parents", "operation", "learning_rate_factor", "inherited", "macs", "ended"}
        else:
            hidden -= {"message", "fidelity"}
        columns = [name for name in found[0] if name not in hidden]
        _table(
            [name.upper().replace("_", " ") for name in columns],
            [[_cell(row[name]) for name in columns] for row in found],
        )


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV with a header; None is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["trial"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has neither NaN nor infinity."""
    return {
        name: None if isinstance(each, float) and not math.isfinite(each) else each
        for name, each in row.items()
    }


def _cell(found: Any) -> str:
    if found is None:
        return "-"
    if isinstance(found, float):
        return f"{found:.4g}" if abs(found) >= 10 else f"{found:.4f}"
    return f"{found:,}" if isinstance(found, int) else " ".join(str(found).split())[:60]


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
        bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")
    ] = False,
    selector: Annotated[
        str, typer.Option("--selector", "-l", help="Those with these labels, as kubectl has it.")
    ] = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="wide, json, yaml or name; else a table.")
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on, and show what changes.")
    ] = False,
    trials: Annotated[
        int,
        typer.Option(
            min=0,
            help="Trials shown of one experiment: those that run, and the latest "
            "of the others; 0 shows all.",
        ),
    ] = 20,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show a run of this machine or an experiment on a cluster with its trials, or all experiments
    there: how far, how good, how long still, and what is wrong."""
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
    from rich.console import Console

    from kinase.console import finished_lines, summary
    from kinase.report.gather import gather
    from kinase.runs import Status, rows, status_of

    loop = open_local(name)
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
        for line in finished_lines(loop, trials or None):
            console.print(line, highlight=False, soft_wrap=True)

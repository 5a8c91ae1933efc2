"""The commands: arguments in, lines and exit codes out.

`commands` are those that `kinase` has for clusters alone; `plugin` is all of `kubectl kinase`.
What needs the Kubernetes client is imported by the command that is run, so that one without it can
say what to install.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

import kinase
from kinase.cli_options import (
    COMPARISON,
    EXPORTED,
    Access,
    ComparisonOut,
    Context,
    Endpoint,
    Folder,
    Formats,
    FromSecret,
    Kubeconfig,
    Labels,
    Namespace,
    NoOpen,
    Port,
    Reference,
    Target,
    TrialNumber,
    Watch,
)
from kinase_kubectl.problem import INTERRUPTED, USAGE, Problem, escaped

if TYPE_CHECKING:
    from kinase.report import ReportData

T = TypeVar("T")

commands = typer.Typer()
plugin = typer.Typer(
    name="kubectl kinase",
    help="Neural architecture searches on a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ExperimentName = Annotated[
    str, typer.Argument(metavar="NAME", help="An experiment, such as digits or nasx/digits.")
]

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def _say(text: str) -> None:
    typer.echo(escaped(text))


def _warn(text: str) -> None:
    typer.echo(escaped(text), err=True)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What goes wrong as one line and an exit code."""
    try:
        yield
    except Problem as problem:
        _warn(f"error: {problem}")
        raise typer.Exit(problem.code) from None
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("kubernetes", "aiohttp", "websocket"):
            raise
        _warn(
            f"error: commands for a cluster need the Kubernetes client ({error}); "
            "install it with: pip install 'kinase-nas[operator,s3]'"
        )
        raise typer.Exit(USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # `kinase logs ... | head`
        sys.stderr.close()
        raise typer.Exit(0) from None


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def seconds(text: str) -> float:
    """A duration as manifests write it: 90s, 5m, 1h30m.

    Raises:
        Problem: it is invalid.
    """
    if not re.fullmatch(r"(\d+(\.\d+)?[dhms])+", text):
        raise Problem(f"{text!r} is not a duration; write it as 90s, 5m or 1h30m", USAGE)
    parts = re.findall(r"([\d.]+)([dhms])", text)
    return sum(timedelta(**{_UNITS[unit]: float(number)}).total_seconds() for number, unit in parts)


def run_get(
    target: Target,
    name: str | None,
    everywhere: bool,
    selector: str,
    output: str,
    *,
    watch: bool,
    trials: int,
) -> None:
    """`kinase get` of experiments on a cluster."""
    with _told():
        from kinase_kubectl import get as work

        query = work.Query(target, name, everywhere, selector, output, trials)
        _run((work.watch if watch else work.get)(query, Console(), _warn))


@commands.command()
def logs(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL|EXPERIMENT",
            help="A trial, such as digits-00012; or an experiment, whose controller is meant.",
        ),
    ],
    namespace: Namespace = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Wait for the pod to begin, and go on until it ends."),
    ] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Of a trial; else the latest.")] = None,
    tail: Annotated[int | None, typer.Option(min=0, help="So many of the last lines.")] = None,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the container that ran before in the pod.")
    ] = False,
    timestamps: Annotated[bool, typer.Option(help="A time before each line.")] = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print what a trial, or the controller of an experiment, has written."""
    with _told():
        from kinase_kubectl import logs as work

        target = Target(namespace, context, kubeconfig)
        wanted = work.Wanted(target, name, attempt, follow, tail, previous, timestamps)
        _run(work.logs(wanted, sys.stdout.buffer, _warn))


Wait = Annotated[bool, typer.Option("--wait", help="Return when it is so.")]
Timeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="Longest wait, such as 5m; else without end.")
]


def _suspend(target: Target, name: str, wanted: bool, wait: bool, timeout: str | None) -> None:
    with _told():
        from kinase_kubectl import change

        limit = seconds(timeout) if timeout is not None else None
        _run(change.suspend(target, name, wanted, wait or timeout is not None, limit, _say))


@commands.command()
def suspend(
    name: ExperimentName,
    namespace: Namespace = None,
    wait: Wait = False,
    timeout: Timeout = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Suspend a search: running trials go to a checkpoint, and all pods end."""
    _suspend(Target(namespace, context, kubeconfig), name, True, wait, timeout)


@commands.command()
def resume(
    name: ExperimentName,
    namespace: Namespace = None,
    wait: Wait = False,
    timeout: Timeout = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Have a suspended search go on where it was."""
    _suspend(Target(namespace, context, kubeconfig), name, False, wait, timeout)


@commands.command()
def wait(
    name: ExperimentName,
    namespace: Namespace = None,
    timeout: Timeout = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Wait for the end of an experiment.

    Exit codes: 0 there is a network, 1 it ended without one, 124 the time was up.
    """
    with _told():
        from kinase_kubectl import change

        limit = seconds(timeout) if timeout is not None else None
        target = Target(namespace, context, kubeconfig)
        raise typer.Exit(_run(change.wait(target, name, limit, _say)))


def run_report(
    name: str,
    target: Target,
    access: Access,
    *,
    out: Path | None,
    watch: bool,
    port: int,
    browse: bool,
) -> None:
    """`kinase report` of an experiment on a cluster."""
    with _told():
        from kinase_kubectl import report as work

        browse = browse and sys.stdout.isatty()
        if watch:
            if out is not None:
                raise Problem("--out goes without --watch, which writes no file", USAGE)
            work.serve(target, name, access, port, browse, _say)
        else:
            work.write(target, name, access, out, browse, _say)


def run_gather(name: str, target: Target, access: Access) -> ReportData:
    """What `kinase compare` shows of an experiment on a cluster."""
    with _told():
        from kinase_kubectl import report as work

        return work.gathered(target, name, access)


def run_export(
    name: str,
    target: Target,
    access: Access,
    *,
    out: Path,
    formats: tuple[str, ...],
    trial: int | None,
) -> None:
    """`kinase export` of an experiment on a cluster."""
    with _told():
        from kinase_kubectl import export as work

        work.export(target, name, access, out, formats, trial, _say)


both = typer.Typer()
"""Commands that `kinase` has for this machine, too."""


@both.command()
def get(
    name: Annotated[
        str | None, typer.Argument(help="One experiment, with its trials; else all.")
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
    """Show the experiments on a cluster: how far, how good, how long still, and what is wrong."""
    target = Target(namespace, context, kubeconfig)
    run_get(target, name, everywhere, selector, output, watch=watch, trials=trials)


@both.command()
def report(
    name: ExperimentName,
    namespace: Namespace = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where to write it ('-': standard output); default: NAME-report.html.",
        ),
    ] = None,
    no_open: NoOpen = False,
    watch: Watch = False,
    port: Port = 0,
    endpoint: Endpoint = None,
    credentials_from_secret: FromSecret = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Open the report of an experiment: as it is now, or as it was left at the end."""
    run_report(
        name,
        Target(namespace, context, kubeconfig),
        Access(endpoint, credentials_from_secret),
        out=out,
        watch=watch,
        port=port,
        browse=not no_open,
    )


@both.command()
def compare(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Experiments.")],
    labels: Labels = None,
    reference: Reference = None,
    namespace: Namespace = None,
    out: ComparisonOut = COMPARISON,
    endpoint: Endpoint = None,
    credentials_from_secret: FromSecret = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Write one page that holds experiments against each other, which are read from their store."""
    target = Target(namespace, context, kubeconfig)
    access = Access(endpoint, credentials_from_secret)
    runs = [run_gather(name, target, access) for name in names]
    with _told():
        from kinase.report import Incomparable, write_comparison
        from kinase_kubectl.report import parts_told

        try:
            with parts_told():
                write_comparison(runs, out, labels or (), reference)
        except (Incomparable, OSError) as error:
            raise Problem(str(error), USAGE) from None


@both.command()
def export(
    name: ExperimentName,
    namespace: Namespace = None,
    out: Folder = EXPORTED,
    formats: Formats = None,
    trial: TrialNumber = None,
    endpoint: Endpoint = None,
    credentials_from_secret: FromSecret = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Export the winner of an experiment, which is read from its store."""
    run_export(
        name,
        Target(namespace, context, kubeconfig),
        Access(endpoint, credentials_from_secret),
        out=out,
        formats=tuple(formats or ()),
        trial=trial,
    )


@both.command()
def version() -> None:
    """Print the version."""
    typer.echo(kinase.__version__)


plugin.add_typer(commands)
plugin.add_typer(both)


def main() -> None:
    """Entry point of `kubectl-kinase`, which kubectl runs as `kubectl kinase`."""
    plugin(prog_name="kubectl kinase")

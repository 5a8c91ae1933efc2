"""The commands: arguments to output lines and exit codes.

`commands` are the commands of `kinase` that are only for clusters; `plugin` is all of `kubectl
kinase`. Each command imports the Kubernetes client when it runs, so that it can say what to install
if the client is missing.
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
    """Turn a problem into one line and an exit code."""
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
    """Read a duration in the manifest's form: 90s, 5m, 1h30m.

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
            help="A trial, such as digits-00012; or an experiment, for its controller.",
        ),
    ],
    namespace: Namespace = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Wait for the pod to start, and follow its log."),
    ] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Default: the latest attempt.")] = None,
    tail: Annotated[int | None, typer.Option(min=0, help="Number of lines from the end.")] = None,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Log of the previous container in the pod.")
    ] = False,
    timestamps: Annotated[bool, typer.Option(help="Show a timestamp before each line.")] = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the log of a trial, or of an experiment's controller."""
    with _told():
        from kinase_kubectl import logs as work

        target = Target(namespace, context, kubeconfig)
        wanted = work.Wanted(target, name, attempt, follow, tail, previous, timestamps)
        _run(work.logs(wanted, sys.stdout.buffer, _warn))


Wait = Annotated[bool, typer.Option("--wait", help="Return when it has happened.")]
Timeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="Maximum wait, such as 5m. Default: no limit.")
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
    """Suspend a search: running trials write a checkpoint, and all pods end."""
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
    """Resume a suspended search."""
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

    Exit codes: 0 if it ended with a network, 1 if without one, 124 after the timeout.
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
                raise Problem("--out cannot be combined with --watch, which writes no file", USAGE)
            work.serve(target, name, access, port, browse, _say)
        else:
            work.write(target, name, access, out, browse, _say)


def run_gather(name: str, target: Target, access: Access) -> ReportData:
    """Data of an experiment on a cluster for `kinase compare`."""
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
"""Commands that `kinase` also has for this machine."""


@both.command()
def get(
    name: Annotated[
        str | None, typer.Argument(help="Show only this experiment, with its trials.")
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
            help="Trials shown of one experiment: those that run, and the latest "
            "of the others; 0 shows all.",
        ),
    ] = 20,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show the experiments on a cluster: progress, best value, remaining time, and problems."""
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
    """Open the current or final report of an experiment."""
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
    """Write one page that compares experiments, which are read from their stores."""
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
    """Export the winner of an experiment from its store."""
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

"""The command line: `starting` and `running` (manifests), `runs` (runs on this machine), `results`
(results of a run), `controller`, and the commands for clusters from another package (entry point
group `kinase.clusters`)."""

from __future__ import annotations

from typing import Annotated

import typer

import kinase
from kinase import registry
from kinase.cli import results, running, runs, starting
from kinase.cli.common import BAD_INPUT, cluster, fail

app = typer.Typer(
    name="kinase",
    help="Neural architecture search: one manifest, on a laptop or on a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(kinase.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


app.add_typer(starting.app)
app.add_typer(running.app)
app.add_typer(runs.app)
app.add_typer(results.app)


@app.command()
def controller() -> None:
    """Run an experiment's search in its pod on a cluster; the operator sets the environment."""
    try:
        run_controller = registry.load("kinase.controllers", "kubernetes")
    except (registry.UnknownMember, ImportError) as error:
        fail(
            f"kinase: {error}; install it with: pip install 'kinase-nas[operator,s3,report]'",
            BAD_INPUT,
        )
    raise typer.Exit(run_controller())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(kinase.__version__)


app.add_typer(cluster().commands)


def main() -> None:
    """Entry point of the command."""
    app(prog_name="kinase")

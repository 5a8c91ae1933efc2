"""Commands that take a manifest: `run`, `validate`, `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kinase.api.load import ManifestError
from kinase.cli.common import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    ManifestArgument,
    fail,
    load,
)

app = typer.Typer()


def _unchecked(why: str) -> str:
    return f"whether the data is still that of the search could not be checked: {why}"


@app.command()
def run(
    file: ManifestArgument,
    store: Annotated[
        str | None, typer.Option(help="Where to keep everything, instead of spec.storage.uri.")
    ] = None,
    parallelism: Annotated[
        int | None, typer.Option(min=1, help="Trials at once, instead of the manifest's.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Budget of trials, instead of the manifest's.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or mps, instead of the manifest's.")
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Start from scratch: what an earlier run of this name left is kept next to it, as "
            "NAME.1, NAME.2, ...",
        ),
    ] = False,
    trainer: Annotated[
        str, typer.Option(help="Entry point of the group kinase.trainers.", hidden=True)
    ] = "torch",
) -> None:
    """Search on this machine, then train, test and keep the winner.

    The same command resumes it; with a larger budget, even after its end.
    """
    from kinase.console import Progress, summary
    from kinase.engine import EngineError
    from kinase.experiment.identity import MismatchError
    from kinase.experiment.local import run as run_local
    from kinase.experiment.local import set_aside
    from kinase.experiment.reopening import lowered, stays
    from kinase.report import render
    from kinase.report.gather import gather
    from kinase.runs import record
    from kinase.store import StoreError

    changes = {
        "storage.uri": store,
        "budget.parallelism": parallelism,
        "budget.trials": trials,
        "training.device": device,
    }
    given = {key: value for key, value in changes.items() if value is not None}
    experiment = load(file, given, trainer)
    if experiment.spec.suspend:
        fail(f"{file}: spec.suspend is true; set it to false to run", BAD_INPUT)
    if trainer != "torch" and experiment.spec.trial_template.command:
        fail(
            f"{file}: spec.trialTemplate.command is set, so --trainer {trainer} has no effect; "
            "leave one of them out",
            BAD_INPUT,
        )
    progress = Progress()
    try:
        if fresh and (aside := set_aside(experiment)):
            typer.echo(f"the earlier run is kept in {aside}", err=True)
        record(experiment)
        with progress:
            loop = run_local(experiment, trainer=trainer, listener=progress, say=progress.say)
        data = gather(loop)
        loop.store.put("report.html", render(data).encode())
    except MismatchError as error:
        fail(f"kinase: {error}; or start from scratch with --fresh", BAD_INPUT)
    except (StoreError, EngineError, ManifestError) as error:
        fail(f"kinase: {error}", BAD_INPUT)
    except KeyboardInterrupt:
        text = "stopped immediately; resume from the last checkpoints with the same command"
        fail("; ".join(filter(None, (text, progress.used))), INTERRUPTED)
    summary(Console(), loop, data)
    unchecked = loop.unchecked and _unchecked(loop.unchecked)
    for note in filter(None, (stays(loop), lowered(loop), unchecked)):
        typer.echo(f"\n{note}", err=True)
    if loop.state.finished is None:
        raise typer.Exit(INTERRUPTED)
    if loop.state.finished.winner is None:
        raise typer.Exit(FAILED)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Manifests to check.")],
    data: Annotated[
        bool,
        typer.Option("--data/--no-data", help="Read the task's data where it is on this machine."),
    ] = True,
) -> None:
    """Check manifests, and read their data if it is on this machine. Nothing is downloaded or
    trained.

    Every problem is shown with its file, line and field. Exit code 2 if there are any.
    """
    from kinase.validation import validate_files

    code, lines = validate_files(files, data=data)
    for line in lines:
        typer.echo(line, err=bool(code))
    raise typer.Exit(code)


@app.command()
def explain(
    field: Annotated[str, typer.Argument(help="A field's path, such as spec.strategy.")] = "",
    recursive: Annotated[bool, typer.Option(help="Also show the fields below.")] = False,
) -> None:
    """Print the documentation of a field of the manifest."""
    from kinase.api.explain import explain as explain_field

    try:
        typer.echo(explain_field(field, recursive=recursive))
    except LookupError as error:
        fail(str(error.args[0]), BAD_INPUT)

"""What the commands share: exit codes, reading a manifest, refusing what has no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from kinase import registry
from kinase.api.experiment import NASExperiment
from kinase.api.load import ManifestError, format_problems

BAD_INPUT = 2
"""Exit code: the manifest or the arguments are at fault."""
FAILED = 1
"""Exit code: the run ended without a network."""
INTERRUPTED = 130
"""Exit code: ended by Ctrl-C with everything kept."""

ManifestArgument = Annotated[Path, typer.Argument(help="The manifest of a NASExperiment.")]
RunStore = Annotated[str | None, typer.Option(help="The run's --store.")]


def fail(message: str, code: int) -> NoReturn:
    """End the command with a message on standard error."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def load(
    path: Path, changes: dict[str, Any] | None = None, trainer: str = "torch"
) -> NASExperiment:
    """Read a manifest and check it, with the command line's changes put in."""
    from kinase.experiment.check import load_checked, with_changes

    try:
        return with_changes(load_checked(path, trainer), changes or {})
    except ManifestError as error:
        fail(format_problems(error.problems), BAD_INPUT)
    except ValidationError as error:
        rules = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        fail(f"{path}, with the options of the command line: {rules}", BAD_INPUT)


def refuse(what: str, flags: dict[str, object]) -> None:
    """Refuse the options that would have no effect on what a command was given."""
    if given := [flag for flag, value in flags.items() if value not in (None, False, 0, ())]:
        fail(f"{', '.join(given)}: no effect on {what}; leave it out", BAD_INPUT)


ON_A_CLUSTER = "an experiment on a cluster, whose manifest says where it is kept"


def cluster() -> Any:
    """The commands for clusters. They need the Kubernetes client only when they are run."""
    return registry.load("kinase.clusters", "kubernetes")

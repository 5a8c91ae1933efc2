"""Shared by the commands: exit codes, reading a manifest, rejecting options without effect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from kinase import registry
from kinase.api import forms
from kinase.api.experiment import NASExperiment
from kinase.api.load import ManifestError, dotted, format_problems

if TYPE_CHECKING:
    from kinase.experiment.record import Record
    from kinase.runs import Place

BAD_INPUT = 2
"""Exit code: the manifest or the arguments are at fault."""
FAILED = 1
"""Exit code: the run ended without a network."""
INTERRUPTED = 130
"""Exit code: interrupted by Ctrl-C; everything is kept."""

ManifestArgument = Annotated[Path, typer.Argument(help="The manifest of a NASExperiment.")]
RunStore = Annotated[str | None, typer.Option(help="The run's --store.")]


def fail(message: str, code: int) -> NoReturn:
    """End the command with a message on standard error."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def load(
    path: Path, changes: dict[str, Any] | None = None, trainer: str = "torch"
) -> NASExperiment:
    """Read a manifest, apply the command line's changes, and check it."""
    from kinase.experiment.check import load_checked, with_changes

    try:
        return with_changes(load_checked(path, trainer), changes or {})
    except ManifestError as error:
        fail(format_problems(error.problems), BAD_INPUT)
    except ValidationError as error:
        rules = "; ".join(
            e["msg"].removeprefix("Value error, ")
            if e["type"] == "value_error"
            else f"{dotted(e['loc'])}: {e['input']!r} {_what_is_wrong(e)}"
            for e in error.errors()
        )
        fail(f"{path}, with the options of the command line: {rules}", BAD_INPUT)


def refuse(what: str, flags: dict[str, object]) -> None:
    """Reject options that would have no effect on the given argument."""
    if given := [flag for flag, value in flags.items() if value not in (None, False, 0, ())]:
        fail(f"{', '.join(given)}: no effect on {what}; leave it out", BAD_INPUT)


ON_A_CLUSTER = "an experiment on a cluster, whose manifest says where it is kept"


ON_THIS_MACHINE = "a run of this machine"


def _what_is_wrong(error: Any) -> str:
    if error["type"] == "string_pattern_mismatch":
        return f"does not have the form of {forms.of(error['ctx']['pattern'])}"
    return f"is invalid: {error['msg']}"


def is_manifest(source: str) -> bool:
    """Whether an argument names a file, and not a run by its name or folder."""
    return source.endswith((".yaml", ".yml", ".json")) or Path(source).is_file()


def open_local(source: str, store: str | None = None) -> Record:
    """A run of this machine, replayed for reading.

    Args:
        source: manifest, folder, name or URI of the run.
        store: `--store` of the command line, for a manifest.

    Raises:
        Exit: the run does not exist, or cannot be read.
    """
    from kinase.experiment.local import open_run, reopen
    from kinase.runs import find, undamaged
    from kinase.store import StoreError

    if is_manifest(source):
        experiment = load(Path(source), {"storage.uri": store} if store else None)
    else:
        refuse(f"{source}, which is not a manifest", {"--store": store})
    try:
        if is_manifest(source):
            with undamaged(source):
                return open_run(experiment)
        place = find(source)
        with undamaged(place.uri):
            return reopen(place.store(), place.namespace)
    except (StoreError, ManifestError) as error:
        fail(f"kinase: {error}", BAD_INPUT)


@contextmanager
def shown(loop: Record) -> Iterator[None]:
    """Show a run inside this block.

    Raises:
        Exit: its journal contradicts itself.
    """
    from kinase.runs import undamaged
    from kinase.store import StoreError

    try:
        with undamaged(loop.store.uri):
            yield
    except StoreError as error:
        fail(f"kinase: {error}", BAD_INPUT)


def run_at(source: str) -> Place | None:
    """The run on this machine that an argument names, or None.

    Raises:
        Exit: several have the name.
    """
    from kinase.runs import AmbiguousName, UnknownRun, find

    try:
        place = find(source)
    except UnknownRun:
        return None
    except AmbiguousName as error:
        fail(f"kinase: {error}", BAD_INPUT)
    there = place.folder is not None and (place.folder / "experiment.json").is_file()
    return place if there or "://" not in source else None


def cluster() -> Any:
    """The commands for clusters. Only running one requires the Kubernetes client."""
    return registry.load("kinase.clusters", "kubernetes")

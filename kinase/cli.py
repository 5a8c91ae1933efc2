"""The command line: `kinase run`, `validate`, `explain`, `report`, `compare`, `export`,
`controller`, and the commands for clusters, which another package has (entry point group
`kinase.clusters`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

import kinase
from kinase import registry
from kinase.api.experiment import NASExperiment
from kinase.api.load import ManifestError, format_problems
from kinase.options import (
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
    is_local,
)

app = typer.Typer(
    name="kinase",
    help="Neural architecture search: one manifest, on a laptop or on a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

BAD_INPUT = 2
"""Exit code: the manifest or the arguments are at fault."""
FAILED = 1
"""Exit code: the run ended without a network."""
INTERRUPTED = 130
"""Exit code: ended by Ctrl-C with everything kept."""

ManifestArgument = Annotated[Path, typer.Argument(help="The manifest of a NASExperiment.")]
RunStore = Annotated[str | None, typer.Option(help="The run's --store.")]


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _load(
    path: Path, changes: dict[str, Any] | None = None, trainer: str = "torch"
) -> NASExperiment:
    """Read a manifest and check it, with the command line's changes put in."""
    from kinase.experiment.check import load_checked

    try:
        return _changed(load_checked(path, trainer), changes or {})
    except ManifestError as error:
        _fail(format_problems(error.problems), BAD_INPUT)
    except ValidationError as error:
        rules = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        _fail(f"{path}, with the options of the command line: {rules}", BAD_INPUT)


def _refuse(what: str, flags: dict[str, object]) -> None:
    """Refuse the options that would have no effect on what a command was given."""
    if given := [flag for flag, value in flags.items() if value not in (None, False, 0, ())]:
        _fail(f"{', '.join(given)}: no effect on {what}; leave it out", BAD_INPUT)


ON_A_CLUSTER = "an experiment on a cluster, whose manifest says where it is kept"


def _unchecked(why: str) -> str:
    return f"whether the data is still that of the search could not be checked: {why}"


def _changed(experiment: NASExperiment, changes: dict[str, Any]) -> NASExperiment:
    if not changes:
        return experiment
    document = experiment.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place = document["spec"]
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    return NASExperiment.model_validate(document)


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
            help="Start from scratch: what an earlier run of this name left is kept beside it, as "
            "NAME.1, NAME.2, ...",
        ),
    ] = False,
    trainer: Annotated[
        str, typer.Option(help="Entry point of the group kinase.trainers.", hidden=True)
    ] = "torch",
) -> None:
    """Search on this machine, then train, test and keep the winner.

    The same command again goes on where it was; with a larger budget, also after the end.
    """
    from kinase.console import Progress, summary
    from kinase.engine import EngineError
    from kinase.experiment.identity import MismatchError
    from kinase.experiment.local import run as run_local
    from kinase.experiment.local import set_aside
    from kinase.report import render
    from kinase.report.gather import gather
    from kinase.store import StoreError

    changes = {
        "storage.uri": store,
        "budget.parallelism": parallelism,
        "budget.trials": trials,
        "training.device": device,
    }
    given = {key: value for key, value in changes.items() if value is not None}
    experiment = _load(file, given, trainer)
    if experiment.spec.suspend:
        _fail(f"{file}: spec.suspend is true; set it to false to run", BAD_INPUT)
    try:
        if fresh and (aside := set_aside(experiment)):
            typer.echo(f"the earlier run is kept in {aside}", err=True)
        with Progress() as progress:
            loop = run_local(experiment, trainer=trainer, listener=progress)
        data = gather(loop)
        loop.store.put("report.html", render(data).encode())
    except MismatchError as error:
        _fail(f"kinase: {error}; or start from scratch with --fresh", BAD_INPUT)
    except (StoreError, EngineError, ManifestError) as error:
        _fail(f"kinase: {error}", BAD_INPUT)
    except KeyboardInterrupt:
        _fail("ended at once; the same command goes on from the last checkpoints", INTERRUPTED)
    summary(Console(), loop, data)
    for note in filter(None, (loop.stays, loop.unchecked and _unchecked(loop.unchecked))):
        typer.echo(f"\n{note}", err=True)
    if loop.state.finished is None:
        raise typer.Exit(INTERRUPTED)
    if loop.state.finished.winner is None:
        raise typer.Exit(FAILED)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Manifests to check.")],
) -> None:
    """Check manifests; every problem is told with file, line and field. Exit code 2 if any."""
    from kinase.experiment.check import validate_files

    code, lines = validate_files(files)
    for line in lines:
        typer.echo(line, err=bool(code))
    raise typer.Exit(code)


@app.command()
def explain(
    field: Annotated[str, typer.Argument(help="A field's path, such as spec.strategy.")] = "",
    recursive: Annotated[bool, typer.Option(help="Show the fields below, too.")] = False,
) -> None:
    """Print the documentation of a field of the manifest."""
    from kinase.api.explain import explain as explain_field

    try:
        typer.echo(explain_field(field, recursive=recursive))
    except LookupError as error:
        _fail(str(error.args[0]), BAD_INPUT)


@app.command()
def report(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|NAME",
            help="A manifest that was run here, or the name of an experiment on the cluster. What "
            "has a slash or ends in .yaml, .yml or .json is a file, and so is what lies here, "
            "unless an option names the cluster.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where to write it; by default beside the journal, or NAME-report.html for one "
            "on a cluster ('-': standard output).",
        ),
    ] = None,
    store: RunStore = None,
    namespace: Namespace = None,
    no_open: NoOpen = False,
    watch: Watch = False,
    port: Port = 0,
    endpoint: Endpoint = None,
    credentials_from_secret: FromSecret = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Write the report of a run anew, also of one that is under way; open that of an experiment
    on a cluster."""
    target = Target(namespace, context, kubeconfig)
    if not is_local(source, target):
        _refuse(ON_A_CLUSTER, {"--store": store})
        _refuse("a report that is not served; add --watch", {"--port": 0 if watch else port})
        _cluster().run_report(
            source,
            target,
            Access(endpoint, credentials_from_secret),
            out=out,
            watch=watch,
            port=port,
            browse=not no_open,
        )
        return
    _refuse(
        f"{source}, a run of this machine",
        {
            "--watch": watch,
            "--port": port,
            "--no-open": no_open,
            "--endpoint": endpoint,
            "--credentials-from-secret": credentials_from_secret,
        },
    )
    from kinase.experiment.local import open_run
    from kinase.report import render
    from kinase.report.gather import gather
    from kinase.store import StoreError

    experiment = _load(Path(source), {"storage.uri": store} if store else None)
    try:
        loop = open_run(experiment)
        html = render(gather(loop)).encode()
        if out == Path("-"):
            typer.echo(html, nl=False)
            return
        if out is None:
            loop.store.put("report.html", html)
        else:
            out.write_bytes(html)
    except (StoreError, ManifestError, OSError) as error:
        _fail(f"kinase: {error}", BAD_INPUT)
    typer.echo(out or f"{loop.store.uri}/report.html")


@app.command()
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|NAME...",
            help="Manifests that were run here, or names of experiments on the cluster, as "
            "`kinase report` takes them.",
        ),
    ],
    labels: Labels = None,
    reference: Reference = None,
    out: ComparisonOut = COMPARISON,
    store: Annotated[str | None, typer.Option(help="The runs' --store.")] = None,
    namespace: Namespace = None,
    endpoint: Endpoint = None,
    credentials_from_secret: FromSecret = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Write one page that holds searches against each other: what differs in the seed alone is
    one group, and each group has its best value over the cost."""
    from kinase.experiment.local import open_run
    from kinase.report import Incomparable, write_comparison
    from kinase.report.gather import gather
    from kinase.store import StoreError

    target = Target(namespace, context, kubeconfig)
    here = [is_local(source, target) for source in sources]
    if all(here):
        _refuse(
            "runs of this machine",
            {"--endpoint": endpoint, "--credentials-from-secret": credentials_from_secret},
        )
    if not any(here):
        _refuse(ON_A_CLUSTER, {"--store": store})
    runs = []
    try:
        for source in sources:
            if is_local(source, target):
                experiment = _load(Path(source), {"storage.uri": store} if store else None)
                runs.append(gather(open_run(experiment)))
            else:
                access = Access(endpoint, credentials_from_secret)
                runs.append(_cluster().run_gather(source, target, access))
        write_comparison(runs, out, labels or (), reference)
    except (StoreError, ManifestError, Incomparable, OSError) as error:
        _fail(f"kinase: {error}", BAD_INPUT)


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER|URI|NAME",
            help="A manifest that was run, the folder or URI of a trained network, or the name of "
            "an experiment on the cluster. What has a slash or a manifest's ending is none, nor "
            "what lies here, unless an option names the cluster.",
        ),
    ],
    out: Folder = EXPORTED,
    formats: Formats = None,
    trial: TrialNumber = None,
    store: RunStore = None,
    namespace: Namespace = None,
    endpoint: Endpoint = None,
    credentials_from_secret: FromSecret = False,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Export a trained network: safetensors with its architecture and model card, TorchScript,
    an exported program, and ONNX that was checked against the network."""
    target = Target(namespace, context, kubeconfig)
    if not is_local(source, target):
        _refuse(ON_A_CLUSTER, {"--store": store})
        _cluster().run_export(
            source,
            target,
            Access(endpoint, credentials_from_secret),
            out=out,
            formats=tuple(formats or ()),
            trial=trial,
        )
        return
    _refuse(
        f"{source}, which this machine reads itself",
        {"--endpoint": endpoint, "--credentials-from-secret": credentials_from_secret},
    )
    if not source.endswith((".yaml", ".yml", ".json")):
        _refuse(f"{source}, a trained network", {"--trial": trial is not None, "--store": store})
    from kinase.experiment import artifacts
    from kinase.store import StoreError, open_store, open_uri

    try:
        if source.endswith((".yaml", ".yml", ".json")):
            experiment = _load(Path(source), {"storage.uri": store} if store else None)
            place = "final" if trial is None else artifacts.prefix(trial)
            network = open_store(experiment.spec.storage).sub(f"{experiment.directory}/{place}")
        else:
            network = open_uri(source if "://" in source else f"file://{source}")
        trainer = registry.load("kinase.trainers", "torch")
        written = trainer.export(network, out, tuple(formats or ()))
    except (StoreError, ValueError, OSError) as error:
        _fail(f"kinase: {error}", BAD_INPUT)
    for path in written:
        typer.echo(path)


@app.command()
def controller() -> None:
    """Run an experiment's search in its pod on a cluster; the operator sets the environment."""
    try:
        run_controller = registry.load("kinase.controllers", "kubernetes")
    except (registry.UnknownMember, ImportError) as error:
        _fail(
            f"kinase: {error}; install it with: pip install 'kinase-nas[operator,s3,report]'",
            BAD_INPUT,
        )
    raise typer.Exit(run_controller())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(kinase.__version__)


def _cluster() -> Any:
    """The commands for clusters. They need the Kubernetes client only when they are run."""
    return registry.load("kinase.clusters", "kubernetes")


app.add_typer(_cluster().commands)


def main() -> None:
    """Entry point of the command."""
    app(prog_name="kinase")


if __name__ == "__main__":
    main()

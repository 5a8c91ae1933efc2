"""Commands that read the results of a run: `report`, `compare`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinase import registry
from kinase.api.load import ManifestError
from kinase.cli.common import (
    BAD_INPUT,
    ON_A_CLUSTER,
    RunStore,
    cluster,
    fail,
    is_manifest,
    load,
    open_local,
    refuse,
    run_at,
    shown,
)
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
    is_local,
)
from kinase.words import unwritable

app = typer.Typer()


@app.command()
def report(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|NAME",
            help="A manifest that was run here, a run of this machine by its name or folder, or "
            "else an experiment on the cluster by its name. An option that names the cluster "
            "means that one.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where to write it; by default next to the journal, or NAME-report.html for one "
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
    """Write the report of a run, even while it is running; open the report of an experiment on a
    cluster."""
    target = Target(namespace, context, kubeconfig)
    if not is_local(source, target):
        refuse(ON_A_CLUSTER, {"--store": store})
        refuse("a report that is not served; add --watch", {"--port": 0 if watch else port})
        cluster().run_report(
            source,
            target,
            Access(endpoint, credentials_from_secret),
            out=out,
            watch=watch,
            port=port,
            browse=not no_open,
        )
        return
    refuse(
        f"{source}, a run of this machine",
        {
            "--watch": watch,
            "--port": port,
            "--no-open": no_open,
            "--endpoint": endpoint,
            "--credentials-from-secret": credentials_from_secret,
        },
    )
    from kinase.report import render
    from kinase.report.gather import gather
    from kinase.store import StoreError

    loop = open_local(source, store)
    try:
        with shown(loop):
            html = render(gather(loop)).encode()
        if out == Path("-"):
            typer.echo(html, nl=False)
            return
        if out is None:
            loop.store.put("report.html", html)
        else:
            out.write_bytes(html)
    except (StoreError, ManifestError) as error:
        fail(f"kinase: {error}", BAD_INPUT)
    except OSError as error:
        fail(f"kinase: {unwritable(out, error) if out is not None else error}", BAD_INPUT)
    typer.echo(out or f"{loop.store.uri}/report.html")


@app.command()
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|NAME...",
            help="Manifests, or names of runs of this machine or of experiments on the cluster, "
            "as `kinase report` takes them.",
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
    """Write one page that compares searches. Runs that differ only in the seed form a group; the
    page shows each group's best value over the cost."""
    from kinase.report import Incomparable, write_comparison
    from kinase.report.gather import gather
    from kinase.store import StoreError

    target = Target(namespace, context, kubeconfig)
    here = [is_local(source, target) for source in sources]
    if all(here):
        refuse(
            "runs of this machine",
            {"--endpoint": endpoint, "--credentials-from-secret": credentials_from_secret},
        )
    if not any(here):
        refuse(ON_A_CLUSTER, {"--store": store})
    runs = []
    try:
        for source in sources:
            if is_local(source, target):
                loop = open_local(source, store)
                with shown(loop):
                    runs.append(gather(loop))
            else:
                access = Access(endpoint, credentials_from_secret)
                runs.append(cluster().run_gather(source, target, access))
        write_comparison(runs, out, labels or (), reference)
    except (StoreError, ManifestError, Incomparable, OSError) as error:
        fail(f"kinase: {error}", BAD_INPUT)


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER|URI|NAME",
            help="A manifest that was run, a run of this machine by its name or folder, the folder "
            "or URI of a trained network, or else an experiment on the cluster by its name.",
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
        refuse(ON_A_CLUSTER, {"--store": store})
        cluster().run_export(
            source,
            target,
            Access(endpoint, credentials_from_secret),
            out=out,
            formats=tuple(formats or ()),
            trial=trial,
        )
        return
    refuse(
        f"{source}, which this machine reads itself",
        {"--endpoint": endpoint, "--credentials-from-secret": credentials_from_secret},
    )
    manifest = is_manifest(source)
    run = None if manifest else run_at(source)
    if not manifest:
        refuse(source, {"--store": store})
        if run is None:
            refuse(f"{source}, a trained network", {"--trial": trial is not None})
    from kinase.experiment import artifacts
    from kinase.store import StoreError, open_store, open_uri

    network_of = "final" if trial is None else artifacts.prefix(trial)
    try:
        if manifest:
            experiment = load(Path(source), {"storage.uri": store} if store else None)
            place = f"{experiment.directory}/{network_of}"
            network = open_store(experiment.spec.storage).sub(place)
        elif run is not None:
            network = run.store().sub(network_of)
        else:
            network = open_uri(source if "://" in source else f"file://{source}")
        trainer = registry.load("kinase.trainers", "torch")
        written = trainer.export(network, out, tuple(formats or ()))
    except (FileExistsError, NotADirectoryError):
        fail(f"kinase: {out} is a file; give a folder", BAD_INPUT)
    except (StoreError, ValueError, OSError) as error:
        fail(f"kinase: {error}", BAD_INPUT)
    for path in written:
        typer.echo(path)

"""Options shared by several commands, and whether an argument means a cluster or this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

PANEL = "On a cluster"

Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAMESPACE",
        help="Default: that of the kubeconfig's context.",
        rich_help_panel=PANEL,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Context of the kubeconfig, instead of the current one.",
        rich_help_panel=PANEL,
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Default: KUBECONFIG, or ~/.kube/config, or the pod's own account.",
        rich_help_panel=PANEL,
    ),
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where this machine reaches the store, if the experiment's own endpoint is an "
        "address of the cluster's.",
        rich_help_panel=PANEL,
    ),
]
FromSecret = Annotated[
    bool,
    typer.Option(
        "--credentials-from-secret",
        help="Read the store's credentials from the experiment's Secret, with your own rights on "
        "the cluster; else they come from the environment, as for any S3 client.",
        rich_help_panel=PANEL,
    ),
]
NoOpen = Annotated[
    bool,
    typer.Option("--no-open", help="Open no browser.", rich_help_panel=PANEL),
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        "-w",
        help="Serve it on this machine, updated at each request, until Ctrl-C.",
        rich_help_panel=PANEL,
    ),
]
Port = Annotated[
    int,
    typer.Option(
        min=0, max=65535, help="Port for --watch; 0 takes any that is free.", rich_help_panel=PANEL
    ),
]
Folder = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
EXPORTED = Path("exported")
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format", help="safetensors, torchscript, exported-program, onnx; default: all."
    ),
]
TrialNumber = Annotated[
    int | None, typer.Option(help="Another finalist's or baseline's trial than the winner's.")
]

Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="TEXT",
        help="A group's name; once for each group, in the order in which they are given. By "
        "default it is made of what differs.",
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL",
        help="The group that the others are compared with. Default: random search, or else the "
        "first.",
    ),
]
ComparisonOut = Annotated[
    Path, typer.Option("--out", "-o", help="Where to write it ('-': standard output).")
]
COMPARISON = Path("comparison.html")


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster and namespace."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None

    @property
    def given(self) -> bool:
        """Whether the user gave any of these options."""
        return (self.namespace, self.context, self.kubeconfig) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Access:
    """How this machine reaches an experiment's store."""

    endpoint: str | None = None
    from_secret: bool = False


KINDS = ("nasexperiments", "nasexperiment", "nasx")
"""Prefixes of an experiment's name, with or without the API group: `nasx/digits`."""


def is_local(source: str, target: Target) -> bool:
    """Whether an argument means a file, a folder, a URI or a run on this machine, and not an
    experiment on the cluster. It does if it has a slash or the suffix of a manifest, or if a file,
    folder or run on this machine has that name. An option that names a cluster takes precedence."""
    kind, slash, _ = source.partition("/")
    if target.given or (slash and kind.partition(".")[0] in KINDS):
        return False
    manifest = source.endswith((".yaml", ".yml", ".json"))
    if slash or manifest or Path(source).exists():
        return True
    from kinase.runs.index import is_known

    return is_known(source)

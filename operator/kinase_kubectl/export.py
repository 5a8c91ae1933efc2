"""`kinase export`: export a trained network of an experiment from its store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinase import registry
from kinase.cli_options import Access, Target
from kinase.experiment import artifacts
from kinase_kubectl.cluster import Cluster, plain_name
from kinase_kubectl.problem import Problem
from kinase_kubectl.store_access import StoreAccess, prepare

FINAL = "final"
"""Path of the winner below the experiment's store."""


def export(
    target: Target,
    name: str,
    access: Access,
    out: Path,
    formats: tuple[str, ...],
    trial: int | None,
    say: Callable[[str], Any],
) -> None:
    """Write the network of the winner (or of another finalist) in each format."""
    place = asyncio.run(_find(target, name, access, trial))
    try:
        trainer = registry.load("kinase.trainers", "torch")
    except ImportError as error:
        raise Problem(f"{error}; install it with: pip install 'kinase-nas[trainer,s3]'") from None
    network = place.open().sub(FINAL if trial is None else artifacts.prefix(trial))
    with place.explaining_errors():
        try:
            written = trainer.export(network, out, formats)
        except (ValueError, OSError) as error:
            raise Problem(str(error)) from None
    for path in written:
        say(str(path))


async def _find(target: Target, name: str, access: Access, trial: int | None) -> StoreAccess:
    name = plain_name(name)
    async with Cluster.open(target) as cluster:
        experiment = await cluster.experiment(name)
        if trial is None and experiment.status.model is None:
            ended = "ended without one" if experiment.finished else f"is {experiment.phase} still"
            raise Problem(
                f"{name} has no trained network: it {ended}; --trial N takes that of a finalist"
            )
        return await prepare(cluster, experiment, access)

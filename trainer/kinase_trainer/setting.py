"""The network and the data of a job."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass

import torch

from kinase.api.trial import Kind, TrialJob
from kinase.space import Frame, InfeasibleError, Space
from kinase.store import Store
from kinase_trainer import root as roots
from kinase_trainer.data import Part, Splits, open_parts, open_splits, smallest_batch
from kinase_trainer.network import Network
from kinase_trainer.train import pick_device, seed_of


@dataclass(frozen=True)
class Surroundings:
    """Data, device and space of a job."""

    device: torch.device
    splits: Splits
    train: Part
    validation: Part
    space: Space
    frame: Frame


@dataclass(frozen=True)
class Setting(Surroundings):
    """The same with the job's network."""

    network: Network


def slot() -> int:
    """Number of the slot on this machine that the process belongs to."""
    text = os.environ.get("KINASE_SLOT", "0")
    return int(text) if text.isdigit() else 0


def surroundings(job: TrialJob, store: Store) -> Surroundings:
    """Load the data."""
    device = pick_device(job.training.device, slot())
    splits = roots.normalized(open_splits(job.task), job.space.model)
    fidelity = job.fidelity
    train, validation = open_parts(job.task, fidelity.data_fraction, fidelity.resolution, device)
    _, channels, height, width = train.images.shape
    auxiliary = job.training.auxiliary > 0 and job.kind in (Kind.FINAL, Kind.BASELINE)
    space = roots.space_of(job, store)
    frame = Frame(
        (channels, height, width),
        splits.outputs,
        job.fidelity.scale,
        auxiliary=auxiliary,
        partial=None if job.supernet is None else job.supernet.relaxation.partial,
    )
    return Surroundings(device, splits, train, validation, space, frame)


def set_up(job: TrialJob, store: Store) -> Setting:
    """Build the network and load the data.

    Raises:
        ArchitectureError, InfeasibleError: the network cannot be built.
    """
    around = surroundings(job, store)
    around.space.validate(job.architecture)
    graph = around.space.graph(job.architecture, around.frame)
    torch.manual_seed(seed_of(job.seed, 0))
    splits, train = around.splits, around.train
    network = Network(graph, splits.mean, splits.deviation).to(around.device)
    if smallest_batch(len(train), job.training.batch_size) == 1:
        _try_single(network, train, job.training.batch_size)
    return Setting(**vars(around), network=network)


def _try_single(network: Network, train: Part, size: int) -> None:
    """Reject networks that cannot learn from a batch of one sample.

    Raises:
        InfeasibleError: a map of one pixel is normalized by the batch, which has no variance.
    """
    images, _ = next(train.read(torch.zeros(1, dtype=torch.long), 1))
    try:
        with torch.no_grad():
            copy.deepcopy(network).train()(images)  # a copy, because statistics change
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InfeasibleError(
            f"training.batchSize {size} gives a batch of one sample, and the network normalizes a "
            f"map of one pixel by its batch ({error}); use a batchSize of 2 or more"
        ) from None

"""A trained network in a store: `weights.safetensors` and `model.json`, which describes it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from os import PathLike, fspath
from typing import Any, Protocol

from pydantic import Field, ValidationError
from safetensors.torch import save as save_tensors
from torch import Tensor

import kinase
from kinase.api import limits
from kinase.api._base import Model
from kinase.api.fidelity import Scale
from kinase.api.space import Space as SpaceModel
from kinase.api.task import Training
from kinase.api.trial import Architecture, TrialJob
from kinase.space import Frame, Space, dump_graph, load_graph, make_space
from kinase.store import Store, TooLarge, open_uri
from kinase_trainer import weights as files
from kinase_trainer.cache import Cache
from kinase_trainer.errors import CorruptModel
from kinase_trainer.morphism.slots import Slots
from kinase_trainer.network import Network
from kinase_trainer.tasks import Units

WEIGHTS = "weights.safetensors"
CARD = "model.json"
SLOTS = "optimizer.safetensors"
"""The optimizer's state of each parameter, if children inherit it."""


class Card(Model):
    """`model.json`: everything except the weights that is needed to build and use the network."""

    version: int = 1
    """Version of this format."""
    experiment: str
    """Experiment that found it."""
    trial: int
    """Trial that trained it."""
    space: SpaceModel
    """Search space."""
    root: dict[str, Any] | None = None
    """The graph that the space starts from, if any."""
    architecture: Architecture
    """Genotype."""
    scale: Scale
    """Size of the network."""
    input: tuple[int, int, int]
    """(channels, height, width) of an image."""
    outputs: int
    """Number of classes or labels, or of numbers per sample."""
    classes: tuple[str, ...] = ()
    """Names of the classes, if the data set has them."""
    task: str
    """Kind of task."""
    dataset: str
    """Data set that it was trained on."""
    mean: tuple[float, ...]
    """Mean of each channel, which the network subtracts itself."""
    deviation: tuple[float, ...]
    """Standard deviation of each channel, by which the network divides itself."""
    target_mean: tuple[float, ...] | None = None
    """For regression: mean of each target, which the loaded network adds itself."""
    target_deviation: tuple[float, ...] | None = None
    """For regression: standard deviation of each target, by which the loaded network multiplies
    itself."""
    metrics: dict[str, float]
    """Validation metrics at the end of the training."""
    params: int
    """Trainable parameters."""
    macs: int
    """Multiply-adds of one image."""
    epochs: int
    """Training epochs."""
    training: Training | None = None
    """Settings of the training; older cards have none."""
    sha256: str
    """Digest of the weights file."""
    slots_sha256: str | None = None
    """Digest of the optimizer's file, if there is one."""
    kinase: str
    """Version of Kinase that wrote this."""
    tensors: dict[str, files.Stored] = Field(default_factory=dict)
    """Tensors of the weights file, so that it can be read in part; older cards have none."""


class Learnt(Protocol):
    """The fields of a card about the data, as in `kinase_trainer.data.Splits`."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel."""

    @property
    def deviation(self) -> tuple[float, ...]:
        """Of each channel."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def units(self) -> Units | None:
        """Scale of standardized outputs."""


def save(
    store: Store,
    prefix: str,
    job: TrialJob,
    network: Network,
    frame: Frame,
    splits: Learnt,
    metrics: dict[str, float],
    slots: Slots | None = None,
    space: Space | None = None,
) -> int:
    """Write the weights, and the optimizer's slots if there are any, then the card that names them.
    Return the size of the tensors in bytes."""
    space = space or make_space(job.space)
    graph = space.graph(job.architecture, frame).without_auxiliary()
    root = space.begins_with
    names = {node.name for node in graph}
    state = network.state_dict()
    kept = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if not name.startswith("nodes.") or name.split(".")[1] in names
    }
    weights = save_tensors(kept)
    slot_bytes = b""
    if slots is not None:
        flat = {f"{slot}/{n}": t.cpu() for n, each in slots.items() for slot, t in each.items()}
        slot_bytes = save_tensors(flat)
        store.put(f"{prefix}/{SLOTS}", slot_bytes)
    units = splits.units
    card = Card(
        experiment=job.experiment,
        trial=job.trial,
        space=job.space,
        root=None if root is None else dump_graph(root),
        architecture=job.architecture,
        scale=frame.scale,
        input=(frame.input[0], frame.input[1], frame.input[2]),
        outputs=frame.outputs,
        classes=splits.classes,
        task=job.task.type,
        dataset=job.task.dataset,
        mean=splits.mean,
        deviation=splits.deviation,
        target_mean=None if units is None else units.mean,
        target_deviation=None if units is None else units.deviation,
        metrics=metrics,
        params=graph.params(),
        macs=graph.macs(),
        epochs=job.fidelity.epochs,
        training=job.training,
        sha256=hashlib.sha256(weights).hexdigest(),
        slots_sha256=hashlib.sha256(slot_bytes).hexdigest() if slot_bytes else None,
        kinase=kinase.__version__,
        tensors=files.describe(weights),
    )
    store.put(f"{prefix}/{WEIGHTS}", weights)
    store.put(f"{prefix}/{CARD}", card.model_dump_json(by_alias=True, indent=2).encode())
    return len(weights) + len(slot_bytes)


def read_card(source: Store) -> Card:
    """Read the card of a network.

    Raises:
        NotFound: the network does not exist.
        CorruptModel: the card is invalid.
    """
    try:
        return Card.model_validate_json(source.get(CARD, limits.CARD))
    except TooLarge as error:
        raise CorruptModel(str(error)) from error
    except ValidationError as error:
        raise CorruptModel(f"{source.uri}/{CARD} is not a valid model card: {error}") from error


def read_state(
    source: Store, card: Card, names: Iterable[str] | None = None, cache: Cache | None = None
) -> dict[str, Tensor]:
    """Read a network's tensors (or only those with the given names), and check their digests.

    Raises:
        NotFound: they do not exist.
        CorruptModel: they differ from the card.
    """
    return files.read(source, WEIGHTS, card.sha256, card.tensors or None, names, cache)


def read_slots(source: Store, card: Card, cache: Cache | None = None) -> Slots:
    """Read the optimizer's slots, if there are any, and check their digests.

    Raises:
        NotFound, CorruptModel: as `read_state`.
    """
    kept: Slots = {}
    if card.slots_sha256:
        for name, tensor in files.read(source, SLOTS, card.slots_sha256, cache=cache).items():
            slot, _, parameter = name.partition("/")
            kept.setdefault(parameter, {})[slot] = tensor
    return kept


def load(
    source: str | PathLike[str] | Store, *, raw: bool = False
) -> tuple[Network, dict[str, Any]]:
    """Load a trained network, ready for inference, and its card.

    Args:
        source: folder, URI or store that holds `weights.safetensors` and `model.json`.
        raw: whether the outputs of a regression stay standardized.

    Returns:
        The network in evaluation mode on the CPU. It takes float images in 0..1 of shape (N, C, H,
            W) and returns logits (N, classes), or the numbers of a regression in the data's units.
            Also the card as plain data.

    Raises:
        NotFound: the network does not exist.
        CorruptModel: the files are damaged.
    """
    if not isinstance(source, Store):
        source = fspath(source)
        source = open_uri(source if "://" in source else f"file://{source}")
    card = read_card(source)
    state = read_state(source, card)
    try:
        space = make_space(card.space, None if card.root is None else load_graph(card.root))
        space.validate(card.architecture)
        graph = space.graph(card.architecture, Frame(card.input, card.outputs, card.scale))
        network = Network(graph, card.mean, card.deviation)
        network.load_state_dict(state)
        if card.target_mean is not None and card.target_deviation is not None and not raw:
            network.answer_in(card.target_mean, card.target_deviation)
    except (ValueError, RuntimeError) as error:
        raise CorruptModel(f"{source.uri}: the weights do not fit the card: {error}") from error
    return network.eval(), card.model_dump(mode="json", by_alias=True)

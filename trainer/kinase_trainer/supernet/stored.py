"""A trained supernet in a store: `supernet.safetensors`, and `supernet.json`, which describes it.

Candidates read the tensors of their part only, by ranges.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from pydantic import Field, ValidationError
from safetensors.torch import save as save_tensors
from torch import Tensor

import kinase
from kinase.api import limits
from kinase.api._base import Model
from kinase.api.fidelity import Scale
from kinase.api.space import Space as SpaceModel
from kinase.api.supernet import SupernetPlan
from kinase.api.trial import TrialJob
from kinase.space import Frame
from kinase.store import NotFound, Store, TooLarge
from kinase_trainer import weights as files
from kinase_trainer.cache import Cache
from kinase_trainer.errors import CorruptModel
from kinase_trainer.network import Network

WEIGHTS = "supernet.safetensors"
CARD = "supernet.json"


class Card(Model):
    """`supernet.json`: what is needed to use a part of the weights."""

    version: int = 1
    """Version of this format."""
    experiment: str
    """Experiment that trained it."""
    trial: int
    """Trial that trained it."""
    space: SpaceModel
    """Search space."""
    scale: Scale
    """Size of the network."""
    input: tuple[int, int, int]
    """(channels, height, width) of an image."""
    outputs: int
    """Number of classes or labels, or of numbers per sample."""
    plan: SupernetPlan
    """How it was trained."""
    sha256: str
    """Digest of the weights file."""
    kinase: str
    """Version of Kinase that wrote this."""
    tensors: dict[str, files.Stored] = Field(default_factory=dict)
    """Tensors of the weights file, so that it can be read in part."""


def save(store: Store, job: TrialJob, network: Network, frame: Frame) -> int:
    """Write the weights, then the card that names them. Return the size of the tensors in bytes."""
    assert job.supernet is not None
    state = network.state_dict()
    raw = save_tensors({name: t.detach().cpu().contiguous() for name, t in state.items()})
    card = Card(
        experiment=job.experiment,
        trial=job.trial,
        space=job.space,
        scale=frame.scale,
        input=(frame.input[0], frame.input[1], frame.input[2]),
        outputs=frame.outputs,
        plan=job.supernet,
        sha256=hashlib.sha256(raw).hexdigest(),
        kinase=kinase.__version__,
        tensors=files.describe(raw),
    )
    store.put(f"{job.prefix}/{WEIGHTS}", raw)
    store.put(f"{job.prefix}/{CARD}", card.model_dump_json(by_alias=True).encode())
    return len(raw)


class Opened:
    """What a process has read of supernets, for the candidates that it scores in turn. A stored
    supernet does not change."""

    def __init__(self, cache: Cache | None = None) -> None:
        """Nothing is read yet; `cache` is that of this node."""
        self._cache = cache
        self._cards: dict[str, Card] = {}
        self._files: dict[str, files.Reader] = {}

    @property
    def bytes_from_cache(self) -> int:
        """Bytes read from the cache instead of the store."""
        return 0 if self._cache is None else self._cache.bytes_read

    def card(self, store: Store, prefix: str, job: TrialJob, frame: Frame) -> Card:
        """The card of a supernet, compared with what a candidate needs.

        Raises:
            CorruptModel: there is none, it is invalid, or it is of another space, size or task.
        """
        card = self._cards.get(prefix)
        if card is None:
            card = self._cards[prefix] = _read(store, prefix)
        for what, theirs, ours in (
            ("space", card.space, job.space),
            ("scale", card.scale, frame.scale),
            ("input", card.input, tuple(frame.input)),
            ("outputs", card.outputs, frame.outputs),
        ):
            if theirs != ours:
                raise CorruptModel(
                    f"{store.uri}/{prefix}/{CARD} is of another supernet: its {what} is "
                    f"{_shown(theirs)}, and the candidate's {_shown(ours)}"
                )
        return card

    def read(self, store: Store, prefix: str, card: Card, names: set[str]) -> dict[str, Tensor]:
        """Read some of a supernet's tensors.

        Args:
            store: store of the experiment.
            prefix: of the supernet's trial.
            card: of the supernet.
            names: of the tensors, which the card has.

        Raises:
            CorruptModel: the file is missing or damaged.
        """
        place = store.sub(prefix)
        file = self._files.get(prefix)
        if file is None:
            file = files.Reader(WEIGHTS, card.sha256, card.tensors, self._cache)
            self._files[prefix] = file
        try:
            return file.read(place, names)
        except NotFound:
            raise CorruptModel(f"{place.uri}/{WEIGHTS} is missing, and {CARD} names it") from None


def _read(store: Store, prefix: str) -> Card:
    where = f"{store.uri}/{prefix}/{CARD}"
    try:
        return _parsed(store.get(f"{prefix}/{CARD}", limits.CARD))
    except NotFound:
        raise CorruptModel(
            f"{where} is missing: the supernet was deleted, or never stored"
        ) from None
    except TooLarge as error:
        raise CorruptModel(str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        raise CorruptModel(f"{where} is invalid: {field}{first['msg']:.200}") from error


@lru_cache(maxsize=2)
def _parsed(text: bytes) -> Card:
    """Parsed once for the many jobs that a process on this machine gets: a card has an entry for
    each tensor."""
    return Card.model_validate_json(text)


def _shown(value: object) -> str:
    text = (
        value.model_dump_json(by_alias=True, exclude_none=True)
        if isinstance(value, Model)
        else str(value)
    )
    return f"{text:.200}"

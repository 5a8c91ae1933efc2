"""The network that a trial of the sdk keeps: with a card where we have built it, so that it can be
loaded and exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kinase.store import NotFound, Store
from kinase_trainer.errors import ConfigError

if TYPE_CHECKING:
    from kinase.api.trial import TrialJob
    from kinase.space import Frame, Space
    from kinase_trainer.network import Network

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Learnt:
    """What a network's card says of the data."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    classes: tuple[str, ...]
    units: None = None


def save_built(
    store: Store,
    job: TrialJob,
    network: Network,
    frame: Frame,
    learnt: Learnt,
    metrics: dict[str, float],
    space: Space,
) -> None:
    """Keep a network that `Trial.build` made."""
    from kinase_trainer import model

    model.save(store, job.prefix, job, network, frame, learnt, metrics, space=space)


def save_other(store: Store, prefix: str, network: Any) -> None:
    """Keep the tensors of any other network."""
    from safetensors.torch import save

    tensors = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in network.state_dict().items()
    }
    store.put(f"{prefix}/{WEIGHTS}", save(tensors))


def load_into(network: Any, place: Store, *, built: bool) -> None:
    """Put back what a trial has kept.

    Args:
        network: which takes the weights.
        place: the trial's folder.
        built: whether `Trial.build` made the network.

    Raises:
        ConfigError: there are no weights.
    """
    try:
        if built:
            from kinase_trainer import model

            network.load_state_dict(model.read_state(place, model.read_card(place)))
            return
        from safetensors.torch import load

        network.load_state_dict(load(place.get(WEIGHTS)))
    except NotFound as error:
        raise ConfigError(f"there are no weights to test: {error}") from None

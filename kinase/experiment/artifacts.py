"""Results and weights that trials leave in the store, read as untrusted data."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import ValidationError

from kinase.api import limits
from kinase.api.choices import ChoicesHistory
from kinase.api.storage import Storage
from kinase.api.trial import TrialProgress, TrialResult
from kinase.store import NotFound, Store, TooLarge


def prefix(trial: int, restarts: int = 0) -> str:
    """Path of a trial below its experiment's store; another one each time that it begins again at
    another fidelity."""
    return f"trials/{trial:05d}" + (f".{restarts}" if restarts else "")


def read_progress(store: Store, place: str) -> TrialProgress:
    """What a trial has spent, by its prefix; nothing if it left no valid word of it."""
    try:
        text = store.get(f"{place}/progress.json", limits.LEDGER)
        return TrialProgress.model_validate_json(text)
    except (NotFound, TooLarge, ValidationError):
        return TrialProgress()


def read_result(store: Store, place: str, trial: int) -> TrialResult | None:
    """The result that a trial left below its prefix, or None if it left none that is valid and its
    own."""
    try:
        text = store.get(f"{place}/result.json", limits.RESULT)
        result = TrialResult.model_validate_json(text)
    except (NotFound, TooLarge, ValidationError):
        return None
    return result if result.trial == trial else None


def read_choices(store: Store, place: str) -> ChoicesHistory:
    """How probable the options of a supernet were after each epoch, by its trial's prefix.

    Raises:
        NotFound: the trial has left none.
        TooLarge: the file is larger than `limits.CHOICES`.
        ValidationError: it is damaged.
    """
    return ChoicesHistory.model_validate_json(store.get(f"{place}/choices.json", limits.CHOICES))


CHECKPOINT = "checkpoint"
"""Folder below a trial's prefix."""
FEW = 8
"""Checkpoints of more trials at once are found in one listing of all trials."""
WEIGHTS = "weights.safetensors"
KEPT = ("model.json", WEIGHTS, "optimizer.safetensors")
"""Files of a trial's network."""


def folder(place: str, name: str) -> str:
    """A folder below a trial's prefix; without a name the prefix itself."""
    return f"{place}/{name}" if name else place


def trial_of(place: str) -> int | None:
    """The trial of a prefix, or of a folder below it; None if it is none of a trial."""
    parts = place.split("/")
    number = parts[1].partition(".")[0] if len(parts) > 1 else ""
    return int(number) if parts[0] == "trials" and number.isdecimal() else None


def places_with_weights(store: Store) -> set[str]:
    """The prefixes of trials, and folders below them, in which there are weights."""
    found = (key.rpartition("/") for key in store.list("trials/"))
    places = {place for place, _, name in found if name == WEIGHTS and trial_of(place) is not None}
    return {place for place in places if CHECKPOINT not in place.split("/")}


def drop_weights(store: Store, place: str) -> None:
    """Delete what a trial kept of its network in a folder: first the card, without which no weights
    count."""
    for name in KEPT:
        store.delete(f"{place}/{name}")


def clean(store: Store, storage: Storage, places: Collection[str] | None = None) -> None:
    """Delete the checkpoints of trials that need them no more; weights are stored separately.

    Args:
        store: store of the experiment.
        storage: what is to be kept.
        places: prefixes of these trials; None: all.
    """
    if storage.checkpoints == "all" or (places is not None and not places):
        return
    few = places is not None and len(places) <= FEW
    listings = places if places is not None and few else ("trials",)
    for below in listings:
        for key in list(store.list(f"{below}/")):
            place, found, _ = key.partition(f"/{CHECKPOINT}/")
            if found and (places is None or place in places):
                store.delete(key)

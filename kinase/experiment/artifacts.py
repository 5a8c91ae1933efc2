"""Results and weights that trials leave in the store, read as untrusted data."""

from __future__ import annotations

from pydantic import ValidationError

from kinase.api import limits
from kinase.api.storage import Storage
from kinase.api.trial import TrialProgress, TrialResult
from kinase.store import NotFound, Store, TooLarge


def prefix(trial: int) -> str:
    """Path of a trial below its experiment's store."""
    return f"trials/{trial:05d}"


def read_progress(store: Store, trial: int) -> TrialProgress:
    """Cost of a trial so far; zero if it has not reported any."""
    try:
        text = store.get(f"{prefix(trial)}/progress.json", limits.LEDGER)
        return TrialProgress.model_validate_json(text)
    except (NotFound, TooLarge, ValidationError):
        return TrialProgress()


def read_result(store: Store, trial: int) -> TrialResult | None:
    """The result that a trial left, or None if it is missing, invalid or of another trial."""
    try:
        text = store.get(f"{prefix(trial)}/result.json", limits.RESULT)
        result = TrialResult.model_validate_json(text)
    except (NotFound, TooLarge, ValidationError):
        return None
    return result if result.trial == trial else None


WEIGHTS = "weights.safetensors"
KEPT = ("model.json", WEIGHTS, "optimizer.safetensors")
"""Files of a trial's network."""


def with_weights(store: Store) -> set[int]:
    """The trials whose weights exist."""
    parts = (key.split("/") for key in store.list("trials/"))
    return {int(p[1]) for p in parts if len(p) == 3 and p[2] == WEIGHTS and p[1].isdigit()}


def drop_weights(store: Store, trial: int) -> None:
    """Delete a trial's network: first the card, without which the weights are ignored."""
    for name in KEPT:
        store.delete(f"{prefix(trial)}/{name}")


def clean(store: Store, storage: Storage, below: str = "trials") -> None:
    """Delete the checkpoints of finished trials; weights are stored separately."""
    if storage.checkpoints == "all":
        return
    for key in list(store.list(f"{below}/")):
        if "/checkpoint/" in key:
            store.delete(key)

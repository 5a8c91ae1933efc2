"""What a trial has spent, kept in the store so that a controller can charge a killed attempt."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kinase.api import limits
from kinase.api.trial import Cost, TrialProgress
from kinase.store import NotFound, Store, TooLarge

if TYPE_CHECKING:
    import torch

LEDGER = "progress.json"
"""Below a trial's prefix."""


def read_ledger(store: Store, prefix: str) -> TrialProgress:
    """What was spent so far; nothing if there is no valid word of it."""
    try:
        return TrialProgress.model_validate_json(store.get(f"{prefix}/{LEDGER}", limits.LEDGER))
    except (NotFound, TooLarge, ValidationError):
        return TrialProgress()


class Meter:
    """Counts what one attempt spends on top of what the earlier ones did."""

    def __init__(self, store: Store, prefix: str, attempt: int) -> None:
        """Go on from the ledger in the store; the clock starts now."""
        self._store = store
        self._key = f"{prefix}/{LEDGER}"
        self._ledger = read_ledger(store, prefix).model_copy(update={"attempt": attempt})
        self._before = self._ledger.device_seconds
        self._whole = self._ledger.samples  # passes of all epochs but the one under way
        self._began = time.perf_counter()
        self._lock = threading.RLock()  # a checkpoint is told of by the thread that writes it

    def seconds(self, device: torch.device | None = None) -> float:
        """Seconds so far, all attempts together, once the device has done what it was given."""
        if device is not None and device.type == "cuda":
            import torch

            torch.cuda.synchronize(device)
        return self._before + time.perf_counter() - self._began

    def begin(self, samples: int) -> None:
        """Charge an epoch of so many sample passes, before the first of them."""
        self._whole = self._ledger.samples
        self._write(epochs_begun=self._ledger.epochs_begun + 1, samples=self._whole + samples)

    def end(self, samples: int, seconds: float) -> None:
        """Charge what an epoch took that leads no further."""
        self._write(samples=self._whole + samples, device_seconds=seconds)

    def done(
        self, samples: int, seconds: float, metrics: dict[str, float], *, write: bool = True
    ) -> None:
        """Charge what an epoch took; without `write` the next word says so."""
        with self._lock:
            self._change(samples=self._whole + samples, device_seconds=seconds, metrics=metrics)
            if write:
                self._write()

    def stands(self, epochs: int) -> None:
        """So many epochs were found in the checkpoint; the next word says so."""
        with self._lock:
            self._change(epochs_done=epochs)

    def kept(self, epochs: int) -> None:
        """So many epochs are in the checkpoint."""
        self._write(epochs_done=epochs)

    def settle(self) -> None:
        """Charge the time up to now, after an error."""
        self._write(device_seconds=self.seconds())

    def _change(self, **changes: object) -> None:
        self._ledger = self._ledger.model_copy(update=changes)

    def _write(self, **changes: object) -> None:
        with self._lock:  # also over the put: a later word must not be followed by an earlier one
            self._change(**changes)
            self._store.put(self._key, self._ledger.model_dump_json(by_alias=True).encode())

    def cost(self) -> Cost:
        """All that was charged."""
        return self._ledger.cost

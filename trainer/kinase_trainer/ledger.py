"""The cost of a trial, kept in the store so that a controller can charge a killed attempt."""

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
"""Key below a trial's prefix."""


def read_ledger(store: Store, prefix: str) -> TrialProgress:
    """Cost so far; zero if there is no valid ledger."""
    try:
        return TrialProgress.model_validate_json(store.get(f"{prefix}/{LEDGER}", limits.LEDGER))
    except (NotFound, TooLarge, ValidationError):
        return TrialProgress()


class Meter:
    """Adds the cost of an attempt to that of the earlier ones."""

    def __init__(self, store: Store, prefix: str, attempt: int, workers: int = 1) -> None:
        """Continue the ledger in the store; the clock starts now, for so many workers."""
        self._store, self._workers = store, workers
        self._key = f"{prefix}/{LEDGER}"
        self._ledger = read_ledger(store, prefix).model_copy(update={"attempt": attempt})
        self._before = self._ledger.device_seconds
        self._whole = self._ledger.samples  # samples of all epochs except the current one
        self._began = time.perf_counter()
        self._lock = threading.RLock()  # called by the thread that writes a checkpoint

    def seconds(self, device: torch.device | None = None) -> float:
        """Seconds so far of all attempts and workers, after synchronizing the device."""
        if device is not None and device.type == "cuda":
            import torch

            torch.cuda.synchronize(device)
        return self._before + self._workers * (time.perf_counter() - self._began)

    def begin(self, samples: int) -> None:
        """Charge an epoch with this number of samples, before it starts."""
        self._whole = self._ledger.samples
        self._write(epochs_begun=self._ledger.epochs_begun + 1, samples=self._whole + samples)

    def end(self, samples: int, seconds: float) -> None:
        """Charge an epoch that did not complete."""
        self._write(samples=self._whole + samples, device_seconds=seconds)

    def done(
        self, samples: int, seconds: float, metrics: dict[str, float], *, write: bool = True
    ) -> None:
        """Charge a completed epoch; without `write`, the next update stores it."""
        with self._lock:
            self._change(samples=self._whole + samples, device_seconds=seconds, metrics=metrics)
            if write:
                self._write()

    def stands(self, epochs: int) -> None:
        """So many epochs were found in the checkpoint; the next word says so."""
        with self._lock:
            self._change(epochs_done=epochs)

    def kept(self, epochs: int) -> None:
        """Record the number of epochs in the checkpoint."""
        self._write(epochs_done=epochs)

    def settle(self) -> None:
        """Charge the time so far, after an error."""
        self._write(device_seconds=self.seconds())

    def _change(self, **changes: object) -> None:
        self._ledger = self._ledger.model_copy(update=changes)

    def _write(self, **changes: object) -> None:
        with self._lock:  # also during the put, so that updates stay in order
            self._change(**changes)
            self._store.put(self._key, self._ledger.model_dump_json(by_alias=True).encode())

    def cost(self) -> Cost:
        """Everything charged so far."""
        return self._ledger.cost

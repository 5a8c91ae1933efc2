"""What is known of a trial before its curve: numbers that a model can learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kinase.predict.curve import Floats

COUNTED = ("params", "macs", "depth")
"""Metrics that say something of the network, not of its result."""
PREFIXES = ("proxy_", "training_")
"""Of the names of zero-cost proxies, and of settings of the training that are searched for."""


def known(metrics: Mapping[str, float], learning_rate: float = 1.0) -> dict[str, float]:
    """The features among a trial's metrics, with the factor on its learning rate."""
    found = {
        name: value
        for name, value in metrics.items()
        if name in COUNTED or name.startswith(PREFIXES)
    }
    return {"learning_rate": learning_rate, **found}


class Features:
    """Turns what is known of trials into columns with mean 0 and deviation 1 over the trials that
    it was made from. Sizes span orders of magnitude, so logarithms are taken, with the sign. What
    a trial lacks is 0, the mean. What all trials have alike is left out."""

    def __init__(self, rows: Sequence[Mapping[str, float]]) -> None:
        """`rows`: of the trials to learn from."""
        self._names = sorted({name for row in rows for name in row})
        raw = self._logs(rows)
        there = np.isfinite(raw)
        count = np.maximum(there.sum(axis=0), 1)
        self._mean = np.where(there, raw, 0.0).sum(axis=0) / count
        centred = np.where(there, raw - self._mean, 0.0)
        self._deviation = np.sqrt((centred**2).sum(axis=0) / count)
        self._varied = self._deviation > 1e-9

    def of(self, rows: Sequence[Mapping[str, float]]) -> Floats:
        """The columns of trials, shape (trials, columns)."""
        raw = self._logs(rows)
        centred = np.where(np.isfinite(raw), raw - self._mean, 0.0)[:, self._varied]
        return np.asarray(centred / self._deviation[self._varied], dtype=np.float64)

    def _logs(self, rows: Sequence[Mapping[str, float]]) -> Floats:
        raw = np.array([[row.get(n, np.nan) for n in self._names] for row in rows], np.float64)
        raw = raw.reshape(len(rows), len(self._names))
        raw[~np.isfinite(raw)] = np.nan
        return np.asarray(np.sign(raw) * np.log1p(np.abs(raw)), dtype=np.float64)

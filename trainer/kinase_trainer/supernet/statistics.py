"""Batch normalization by the batch, not by what was seen before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Within it, batches are normalized by their own statistics, also in evaluation; those of the
    network neither count nor change (Bender et al. 2018, section 3.3)."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(n.running_mean, n.running_var, n.track_running_stats) for n in norms]
    for norm in norms:
        norm.running_mean = norm.running_var = None
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, (mean, variance, track) in zip(norms, before, strict=True):
            norm.running_mean, norm.running_var, norm.track_running_stats = mean, variance, track

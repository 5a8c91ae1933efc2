"""Correlation of the input Jacobians (Mellor, Turner, Storkey & Crowley, first version of
arXiv:2006.04647, 2020)."""

from __future__ import annotations

import math

import torch
from torch import nn

from kinase_trainer.proxies.base import Batch, correlations, jacobian

K = 1e-5


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """−Σ [log(v + k) + 1 / (v + k)] over the eigenvalues v of the correlation matrix of the
    Jacobians of the samples, k = 1e-5. Samples that the network distinguishes are uncorrelated:
    then it is about −N; if all are alike it is about −(N − 1) / k."""
    found = correlations(jacobian(network, batch.images))
    if not found.isfinite().all():
        return math.nan
    values = torch.linalg.eigvalsh(found) + K
    return -float((values.log() + 1 / values).sum())

"""EPE-NAS (Lopes, Alirezazadeh & Alexandre 2021, section 3)."""

from __future__ import annotations

import torch
from torch import nn

from kinase_trainer.proxies.base import Batch, correlations, jacobian, output

K = 1e-5
FEW = 100
"""Classes up to which scores are added; of more they are compared."""


def measure(network: nn.Module, batch: Batch, seed: int) -> float:
    """Correlations of the Jacobians of samples of one class. With s_c = Σ log(|r| + 1e-5) over the
    correlation matrix of class c: Σ |s_c| up to 100 classes; of more, with s_c divided by the
    class' samples, Σ_c Σ_d |s_c − s_d| divided by the number of classes that were seen.

    Raises:
        ValueError: the samples do not have one class each.
    """
    if batch.labels is None:
        raise ValueError("it needs samples of one class each")
    with torch.no_grad():
        classes = output(network, batch.images[:2]).shape[-1]
    rows, labels = jacobian(network, batch.images), batch.labels.cpu()
    few = classes <= FEW
    scores = []
    for label in torch.unique(labels):
        own = rows[labels == label]
        score = (correlations(own).abs() + K).log().sum()
        scores.append(score if few else score / len(own))
    found = torch.stack(scores)
    if few:
        return float(found.abs().sum())
    return float((found[:, None] - found[None]).abs().sum() / len(found))

"""Metrics of a complete split, from all of its outputs and targets.

scikit-learn has all of them, and the tests compare with it. It is not used here because importing
it takes about as long as torch, in every pod.
"""

from __future__ import annotations

import torch
from torch import Tensor

ENTRIES = 2**22
"""Maximum number of scores that are ranked at a time."""


def confusion(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """Samples by class and prediction.

    Args:
        predicted: class numbers (N,).
        target: class numbers (N,).
        classes: number of classes.

    Returns:
        Counts (classes, classes); rows are the true classes, columns the predicted ones.
    """
    pairs = torch.bincount(target * classes + predicted, minlength=classes * classes)
    return pairs.view(classes, classes)


def macro_f1(matrix: Tensor) -> float:
    """Mean F1 of the classes that occur or are predicted, from a confusion matrix (K, K)."""
    matrix = matrix.double()
    return _mean(2 * matrix.diagonal() / (matrix.sum(0) + matrix.sum(1)))


def balanced_accuracy(matrix: Tensor) -> float:
    """Mean recall of the classes that occur (Brodersen et al. 2010), from a confusion matrix
    (K, K)."""
    matrix = matrix.double()
    return _mean(matrix.diagonal() / matrix.sum(1))


def macro_f1_of_labels(predicted: Tensor, target: Tensor) -> float:
    """Mean F1 of the labels that occur or are predicted.

    Args:
        predicted: booleans (N, L).
        target: booleans (N, L).
    """
    hits = (predicted & target).sum(0).double()
    return _mean(2 * hits / (predicted.sum(0) + target.sum(0)))


def macro_auc(scores: Tensor, positive: Tensor) -> float:
    """Mean area under the ROC curves of the columns that have positive and negative samples
    (Fawcett 2006, sections 7 and 8); ties count half.

    Args:
        scores: (N, K).
        positive: booleans (N, K).
    """
    return _mean(torch.cat([_auc(s, p) for s, p in _columns(scores, positive)]))


def mean_average_precision(scores: Tensor, positive: Tensor) -> float:
    """Mean average precision of the columns that have a positive sample. That of a column is the
    mean, over its positive samples, of the precision among all samples that score no less.

    Args:
        scores: (N, L).
        positive: booleans (N, L).
    """
    return _mean(torch.cat([_precision(s, p) for s, p in _columns(scores, positive)]))


def r2(predicted: Tensor, target: Tensor) -> float:
    """Mean coefficient of determination of the columns (N, L) whose targets vary."""
    left = (target - predicted).square().sum(0)
    spread = (target - target.mean(0)).square().sum(0)
    return _mean(torch.where(spread > 0, 1 - left / spread, torch.nan))


def _mean(values: Tensor) -> float:
    """Mean of the defined values; NaN if there are none."""
    return float(values.double().nanmean())


def _columns(scores: Tensor, positive: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Groups of columns, as rows."""
    step = max(1, ENTRIES // max(1, len(scores)))
    return list(zip(torch.split(scores.T, step), torch.split(positive.T, step), strict=True))


def _auc(scores: Tensor, positive: Tensor) -> Tensor:
    """By the rank sum of the positive samples (Mann & Whitney 1947)."""
    scores = scores.contiguous()
    if bool(scores.isnan().any()):
        return torch.full((len(scores),), torch.nan, dtype=torch.float64)
    ordered = scores.sort(1).values
    below = torch.searchsorted(ordered, scores)
    ranks = (below + torch.searchsorted(ordered, scores, right=True) + 1).double() / 2
    many, few = positive.sum(1).double(), (~positive).sum(1).double()
    above = (ranks * positive).sum(1) - many * (many + 1) / 2
    return above / (many * few)


def _precision(scores: Tensor, positive: Tensor) -> Tensor:
    scores = scores.contiguous()
    if bool(scores.isnan().any()):
        return torch.full((len(scores),), torch.nan, dtype=torch.float64)
    ordered, order = scores.sort(1)
    below = torch.searchsorted(ordered, scores)
    many = positive.sum(1, keepdim=True)
    hits = positive.gather(1, order).cumsum(1)
    before = torch.cat([torch.zeros_like(many), hits], 1).gather(1, below)
    precision = (many - before).double() / (scores.shape[1] - below)
    return (precision * positive).sum(1) / many[:, 0]

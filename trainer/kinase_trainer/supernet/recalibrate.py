"""The statistics of batch normalizations for one path.

Those of a supernet are a mixture over all paths, by which a path's ranking suffers (Bender et al.
2018, section 3.3; Guo et al. 2020, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kinase_trainer.network import Network


@torch.no_grad()
def recalibrate(network: Network, images: Iterable[Tensor], momentum: float | None = None) -> int:
    """Replace the statistics by those of training images, which run through the network as it is
    set to run.

    Args:
        network: its weights do not change. Drop-path is off.
        images: batches (N, C, H, W).
        momentum: of the running mean over batches. None: the mean over all of them, so that the
            order does not count. 0.1, as in the code of Guo et al. 2020: about the last twenty.

    Returns:
        Images that were passed forward.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    training, rates = network.training, [each.rate for each in network.drop_paths]
    network.train()
    network.set_drop_path(0.0)
    seen = 0
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = momentum
        for batch in images:
            network(batch)
            seen += len(batch)
    finally:
        for norm, value in zip(norms, before, strict=True):
            norm.momentum = value
        for each, rate in zip(network.drop_paths, rates, strict=True):
            each.rate = rate
        network.train(training)
    return seen

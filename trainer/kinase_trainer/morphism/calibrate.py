"""Calibrate inserted normalizations with a batch of data (Chen et al. 2016, section 2.3).

An inserted batch normalization is an identity in evaluation for any statistics that it holds. If
these are the statistics of the data, it is also one in training, where a batch's own statistics are
used.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kinase_trainer.network import Network


@torch.no_grad()
def calibrate(network: Network, images: Tensor, names: Iterable[str]) -> None:
    """Store the statistics of a batch in batch normalizations that are an identity. The network's
    function in evaluation does not change.

    Args:
        network: network of a child that has not been trained yet.
        images: a batch, the larger the better; Cai et al. 2018a use 64.
        names: names of the normalizations' nodes (`Inherited.norms`).
    """
    handles = []
    if not (names := tuple(names)):
        return
    for name in names:
        norm = network.nodes[name]
        assert isinstance(norm, nn.BatchNorm2d)
        handles.append(norm.register_forward_pre_hook(_hold))
    training = network.training
    network.eval()
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)


def _hold(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)

"""Sorted channels compute what they did before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinase.morphism.order import sorted_channels
from kinase_trainer.supernet.elastic import take
from tests.trainer.morphism_graphs import BUILT, images, network_of, trained


@pytest.mark.parametrize("kind", BUILT)
def test_the_function_stays_and_the_first_channels_are_the_largest(kind: str) -> None:
    graph = BUILT[kind]().needed()
    state = trained(graph)

    def norms(name: str, axis: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        weight = state[f"nodes.{name}"].abs()
        return weight.sum(dim=[a for a in range(weight.ndim) if a != axis]).numpy()

    cuts = sorted_channels(graph, norms)
    assert cuts, "something is sorted"
    moved = {f"nodes.{name}": take(state[f"nodes.{name}"], cut) for name, cut in cuts.items()}
    x = images(graph, torch.float64)
    before, after = (network_of(graph, s, torch.float64)(x) for s in (state, state | moved))
    torch.testing.assert_close(after, before, atol=1e-10, rtol=1e-10)
    for cut in cuts.values():
        assert sorted(cut.axes[0]) == list(range(len(cut.axes[0])))
    state |= moved
    if kind == "residual":  # the last hidden layer, which one layer reads
        read = norms("classifier.weight", 1)
        assert (np.diff(read) <= 0).all()

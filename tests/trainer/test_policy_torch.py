"""The layers of a strategy's policy are torch's."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np
import pytest
import torch
from autograd import grad

from kinase.strategy import derive_rng
from kinase.strategy.policy import Adam, Parameters, parameters
from kinase.strategy.policy.layers import Traced, bidirectional

INPUTS, UNITS, LENGTHS = 3, 5, (6, 2, 4)
SUFFIXES = {"ahead": "", "back": "_reverse"}


@pytest.fixture
def p() -> Parameters:
    rng = derive_rng(0)
    made: Parameters = {}
    for name in SUFFIXES:
        made |= parameters.lstm(rng, f"e.{name}", INPUTS, UNITS)
        made[f"e.{name}.b"] = rng.normal(size=4 * UNITS)
    return made


def as_torch(p: Parameters) -> torch.nn.LSTM:
    lstm = torch.nn.LSTM(INPUTS, UNITS, bidirectional=True, dtype=torch.float64)
    with torch.no_grad():
        for name, suffix in SUFFIXES.items():
            getattr(lstm, f"weight_ih_l0{suffix}").copy_(torch.tensor(p[f"e.{name}.x"].T))
            getattr(lstm, f"weight_hh_l0{suffix}").copy_(torch.tensor(p[f"e.{name}.h"].T))
            getattr(lstm, f"bias_ih_l0{suffix}").copy_(torch.tensor(p[f"e.{name}.b"]))
            getattr(lstm, f"bias_hh_l0{suffix}").zero_()
    return lstm


def test_the_bidirectional_lstm_and_its_gradients(p: Parameters) -> None:
    steps = max(LENGTHS)
    xs = derive_rng(1).normal(size=(steps, len(LENGTHS), INPUTS))
    present = np.array([[[float(step < n)] for n in LENGTHS] for step in range(steps)])

    def loss(q: Parameters) -> Traced:
        both, state = bidirectional(q, "e", xs, present)
        h, c = anp.split(state, 2, axis=1)
        shown = anp.reshape(both, (steps, len(LENGTHS), 2 * UNITS)) * present
        return anp.sum(shown**2) + anp.sum(anp.sin(h)) + anp.sum(c**3)

    lstm = as_torch(p)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(xs), torch.tensor(LENGTHS), enforce_sorted=False
    )
    out, (h, c) = lstm(packed)
    shown, _ = torch.nn.utils.rnn.pad_packed_sequence(out)
    theirs = (shown**2).sum() + h.sin().sum() + (c**3).sum()
    theirs.backward()
    assert loss(p) == pytest.approx(theirs.item(), rel=1e-12)
    found = grad(loss)(p)
    for name, suffix in SUFFIXES.items():
        for ours, weight in (("x", "weight_ih"), ("h", "weight_hh"), ("b", "bias_ih")):
            wanted = getattr(lstm, f"{weight}_l0{suffix}").grad.numpy().T
            assert found[f"e.{name}.{ours}"] == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_adam(p: Parameters) -> None:
    theirs = {name: torch.tensor(value, requires_grad=True) for name, value in p.items()}
    optimizer, adam = torch.optim.Adam(theirs.values(), lr=0.03), Adam(0.03)
    rng = derive_rng(2)
    for _ in range(20):
        gradients = {name: rng.normal(size=value.shape) for name, value in p.items()}
        for name, value in theirs.items():
            value.grad = torch.tensor(gradients[name])
        optimizer.step()
        p = adam.step(p, gradients)
    for name, value in p.items():
        assert value == pytest.approx(theirs[name].detach().numpy(), rel=1e-12, abs=1e-14)

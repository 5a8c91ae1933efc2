"""What the tests of several strategies do alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from autograd import grad

from kinase.api.trial import Outcome
from kinase.space import Rng
from kinase.strategy import History
from kinase.strategy.policy import Parameters
from kinase.strategy.testing import Session


def play(
    strategy: Any, value: Any, trials: int, seed: int = 0, outcome: Outcome = Outcome.SUCCEEDED
) -> History:
    """A search on a function of the architecture."""
    session = Session(strategy, seed)
    for _ in range(trials):
        proposal = session.propose()
        assert proposal is not None
        trial = session.ask(proposal)
        session.history.tell(trial.number, outcome, (-value(trial.architecture),))
        strategy.observe(trial, session.history)
    return session.history


def assert_gradient(loss: Callable[[Parameters], Any], p: Parameters, rng: Rng) -> None:
    """The gradient is that of finite differences, at two random places of each parameter."""
    found, step = grad(loss)(p), 1e-6
    for name, value in p.items():
        for _ in range(2):
            at = tuple(int(rng.integers(n)) for n in value.shape)
            sides = []
            for sign in (1, -1):
                moved = value.copy()
                moved[at] += sign * step
                sides.append(loss({**p, name: moved}))
            assert found[name][at] == pytest.approx((sides[0] - sides[1]) / 2 / step, abs=2e-8)

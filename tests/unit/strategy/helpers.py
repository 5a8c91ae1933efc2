"""What the tests of several strategies do alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from autograd import grad

from kinase.api.fidelity import Fidelity, Grant
from kinase.api.trial import Outcome
from kinase.history import Trial
from kinase.space import Rng, derive_rng
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


def screened(strategy: Any, history: History, space: Any) -> None:
    """A pool of three of which the first is trained, and the others are passed over."""
    pool = Grant(fidelity=Fidelity(epochs=1), until=0, rung=-1, final=False)
    members = range(len(history.asked), len(history.asked) + 3)
    for number in members:
        proposal = strategy.propose(history, derive_rng(0, 0, number))
        assert proposal is not None
        key = space.key(proposal.architecture)
        trial = Trial(number, proposal.architecture, key, proposal.parents, grant=pool)
        history.ask(trial)
        strategy.asked(trial, history)
        history.rest(number, 0, (math.inf,))
    best, *others = members
    history.grant(best, pool.model_copy(update={"until": 1, "rung": 0, "final": True}))
    for number, outcome, loss in (
        *((number, Outcome.STOPPED, math.inf) for number in others),
        (best, Outcome.SUCCEEDED, float(best)),
    ):
        assert history.tell(number, outcome, (loss,))
        assert history.by_number[number].passed_over == (number in others)
        strategy.observe(history.by_number[number], history)


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

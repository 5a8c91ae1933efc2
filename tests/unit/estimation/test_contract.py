"""Every estimator, with each of its choices, through the contract."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kinase.api.estimation import Estimation
from kinase.api.fidelity import Grant
from kinase.estimation import Estimator, Setting, make_estimator
from kinase.estimation.testing import SETTING, EstimatorContract, Make, Session

MEMBERS: dict[str, dict[str, Any]] = {
    "full": {"type": "Full"},
    "lower fidelity": {"type": "LowerFidelity", "lowerFidelity": {"epochs": 3}},
    "successive halving": {"type": "SuccessiveHalving"},
    "successive halving, few": {
        "type": "SuccessiveHalving",
        "successiveHalving": {"initial": 7, "eta": 2, "least": 5, "horizon": "rung"},
    },
    "hyperband": {"type": "Hyperband"},
    "hyperband, table": {"type": "Hyperband", "hyperband": {"brackets": "table", "eta": 2}},
    "asha": {"type": "ASHA"},
    "asha, last": {"type": "ASHA", "asha": {"eta": 2, "score": "last", "rungs": [2, 9]}},
    "asha, promoted last": {"type": "ASHA", "asha": {"eta": 3, "promote": "last"}},
    "asynchronous hyperband, promoted last": {
        "type": "AsyncHyperband",
        "asyncHyperband": {"eta": 3, "promote": "last"},
    },
    "asha, data": {"type": "ASHA", "asha": {"axis": "data", "least": 0.05}},
    "asynchronous hyperband": {"type": "AsyncHyperband", "asyncHyperband": {"eta": 3}},
    "full, with looks": {"type": "Full", "stopping": {"type": "Median", "spare": 0.3}},
    "asha, with looks": {"type": "ASHA", "stopping": {"type": "Median", "every": 2}},
    "full, screened": {"type": "Full", "screen": {"pool": 3}},
    "asha, inherited": {"type": "ASHA", "inherit": {}},
    "hyperband, inherited, with looks": {
        "type": "Hyperband",
        "inherit": {"epochsPerChild": 6, "firstEpochs": 2, "eta": 2},
        "stopping": {"type": "Median", "every": 2},
    },
    "hyperband, screened": {"type": "Hyperband", "screen": {"pool": 2}},
}


class TestMembers(EstimatorContract):
    @pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
    def make(self, request: pytest.FixtureRequest) -> Make:
        model = Estimation.model_validate(request.param)

        def make(setting: Setting) -> Estimator:
            return make_estimator(model, setting)

        return make


@pytest.mark.parametrize("slots", [1, 64])
@pytest.mark.parametrize(
    "name", ["successive halving", "hyperband", "asha", "asha, promoted last", "asha, last"]
)
def test_of_curves_like_recorded_ones_those_that_diverge_rank_last(name: str, slots: int) -> None:
    """A third of the trials diverge at some epoch, from a better start than the others."""

    def curve(number: int, grant: Grant) -> list[float]:
        end = number * 37 % 101 / 101
        losses = [end + 1 / epoch for epoch in range(1, grant.until + 1)]
        if number % 3 == 0:
            lost = 1 + number * 5 % 26
            losses = [loss - 1 for loss in losses[:lost]] + [math.inf] * len(losses[lost:])
        return losses

    made = make_estimator(Estimation.model_validate(MEMBERS[name]), SETTING)
    session = Session(made, curve, slots=slots, epochs=900).run()
    told = session.history.told
    ranked = [trial.usable for trial in sorted(told, key=made.rank)]
    assert ranked == sorted(ranked, reverse=True)
    assert not all(ranked)
    for trial in told:
        ends = [losses[0] for _, losses in sorted(trial.rungs.items())]
        assert all(map(math.isfinite, ends[:-1])), "one that has diverged is not promoted"

"""Every estimator, with each of its choices, through the contract."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.estimation import Estimation
from kinase.estimation import Estimator, Setting, make_estimator
from kinase.estimation.testing import EstimatorContract, Make

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
    "hyperband, screened": {"type": "Hyperband", "screen": {"pool": 2}},
}


class TestMembers(EstimatorContract):
    @pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
    def make(self, request: pytest.FixtureRequest) -> Make:
        model = Estimation.model_validate(request.param)

        def make(setting: Setting) -> Estimator:
            return make_estimator(model, setting)

        return make

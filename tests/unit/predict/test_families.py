"""Each family of curves is the paper's formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kinase.predict.families import FAMILIES, Family

X = 3.0
# name, parameters, value at 3 and limit (None: it has no limit) by Domhan et al. 2015, table 1
CASES = [
    ("vapor pressure", (-0.5, -0.4, 0.05), math.exp(-0.5 - 0.4 / X + 0.05 * math.log(X)), None),
    ("pow3", (0.8, 0.5, 0.7), 0.8 - 0.5 * X**-0.7, 0.8),
    ("log log linear", (0.4, 1.1), math.log(0.4 * math.log(X) + 1.1), None),
    ("Hill3", (0.9, 1.2, 2.0), 0.9 * X**1.2 / (2.0**1.2 + X**1.2), 0.9),
    ("log power", (0.7, 1.1, -0.9), 0.7 / (1 + (X / math.exp(1.1)) ** -0.9), 0.7),
    ("pow4", (0.8, 2.0, 0.5, 0.6), 0.8 - (2.0 * X + 0.5) ** -0.6, 0.8),
    ("MMF", (0.9, 0.1, 0.4, 1.3), 0.9 - 0.8 / (1 + (0.4 * X) ** 1.3), 0.9),
    ("exp4", (0.8, 0.6, -0.2, 0.7), 0.8 - math.exp(-0.6 * X**0.7 - 0.2), 0.8),
    ("Janoschek", (0.9, 0.1, 0.4, 0.8), 0.9 - 0.8 * math.exp(-0.4 * X**0.8), 0.9),
    ("Weibull", (0.9, 0.1, 0.4, 0.8), 0.9 - 0.8 * math.exp(-((0.4 * X) ** 0.8)), 0.9),
    ("ilog2", (0.8, 0.4), 0.8 - 0.4 / math.log(X + 1), 0.8),
]
BY_NAME = {family.name: family for family in FAMILIES}


def test_there_are_eleven() -> None:
    assert sorted(BY_NAME) == sorted(case[0] for case in CASES)


@pytest.mark.parametrize(("name", "parameters", "value", "limit"), CASES)
def test_a_family_is_the_papers(
    name: str, parameters: tuple[float, ...], value: float, limit: float | None
) -> None:
    rows = np.array([parameters, BY_NAME[name].start])
    found = BY_NAME[name].at(np.array([X, 1e12]), rows)
    assert found.shape == (2, 2)
    assert found[0, 0] == pytest.approx(value, rel=1e-12)
    if limit is not None:
        assert found[0, 1] == pytest.approx(limit, abs=0.02)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family.name))
def test_where_a_fit_begins_a_family_rises(family: Family) -> None:
    early, late = family.at(np.array([2.0, 100.0]), np.array([family.start]))[0]
    assert 0 <= early < late <= 2

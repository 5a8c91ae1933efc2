"""Ladders: their rungs on each axis, and what is wrong with one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kinase.api.estimation import Estimation
from kinase.api.fidelity import Fidelity, Grant, Scale
from kinase.api.load import Document, ManifestError
from kinase.api.space import Space as SpaceModel
from kinase.estimation import Setting, make_estimator
from kinase.estimation.ladder import increment
from kinase.experiment.check import check
from kinase.space import Frame, make_space
from tests.unit.experiment.helpers import experiment, make_loop

FULL = Fidelity(epochs=30, resolution=32, scale=Scale(cells=8, filters=16))


def setting(space: dict[str, Any] | None = None, full: Fidelity = FULL) -> Setting:
    made = make_space(SpaceModel.model_validate(space or {"type": "Chain"}))
    return Setting(full, made, Frame((3, 32, 32), 10, full.scale))


def ladder(where: Setting | None = None, **options: Any) -> tuple[Grant, ...]:
    model = Estimation.model_validate({"type": "Hyperband", "hyperband": options})
    return make_estimator(model, where or setting()).ladder


def test_epochs_keep_the_horizon_of_the_full_fidelity() -> None:
    grants = ladder()
    assert [(g.until, g.rung, g.final) for g in grants] == [
        (1, 0, False),
        (3, 1, False),
        (10, 2, False),
        (30, 3, True),
    ]
    assert {g.fidelity.epochs for g in grants} == {30}
    assert [increment(grants, k) for k in (1, 2, 3)] == [2, 7, 20]


def test_a_horizon_of_the_rung_makes_each_rung_a_training_of_its_own() -> None:
    grants = ladder(horizon="rung")
    assert [(g.fidelity.epochs, g.until) for g in grants] == [(1, 1), (3, 3), (10, 10), (30, 30)]
    assert [increment(grants, k) for k in (1, 2, 3)] == [3, 10, 30]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"axis": "data", "least": 0.1}, [{"data_fraction": 1 / 9}, {"data_fraction": 1 / 3}, {}]),
        ({"axis": "resolution", "least": 8, "eta": 2}, [{"resolution": 8}, {"resolution": 16}, {}]),
        (
            {"axis": "filters", "rungs": [0.25, 0.5]},
            [{"scale": Scale(cells=8, filters=16, filter_fraction=f)} for f in (0.25, 0.5)] + [{}],
        ),
        (
            {"axis": "cells", "least": 2, "eta": 2},
            [{"scale": Scale(cells=c, filters=16)} for c in (2, 4)] + [{}],
        ),
    ],
)
def test_each_axis_changes_its_own_part(
    options: dict[str, Any], wanted: list[dict[str, Any]]
) -> None:
    where = setting({"type": "Cell", "cell": {"preset": "nasbench201"}})
    grants = ladder(where, **options)
    assert [g.fidelity for g in grants] == [FULL.model_copy(update=change) for change in wanted]
    assert {g.until for g in grants} == {30}
    assert [increment(grants, k) for k in (1, 2)] == [30, 30]


def test_a_share_is_of_the_full_fidelitys() -> None:
    half = FULL.model_copy(update={"data_fraction": 0.5})
    grants = ladder(setting(full=half), axis="data", rungs=[0.5])
    assert [g.fidelity.data_fraction for g in grants] == [0.25, 0.5]


def test_without_a_resolution_it_is_that_of_the_data() -> None:
    where = setting(full=FULL.model_copy(update={"resolution": None}))
    grants = ladder(replace(where, frame=Frame((1, 28, 24), 10)), axis="resolution", least=8)
    assert [g.fidelity.resolution for g in grants] == [8, None]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"least": 11}, "least 11 is above the full fidelity / eta = 30 / 3"),
        ({"least": 40}, "least 40 is above the full fidelity / eta = 30 / 3"),
        ({"rungs": [3, 30]}, "rungs end with 30; they must be below the full fidelity's 30"),
        ({"axis": "resolution", "least": 20, "eta": 2}, "least 20 is above .* = 32 / 2"),
        ({"axis": "cells", "least": 2, "eta": 2}, "axis cells requires a search space that has"),
    ],
)
def test_a_ladder_that_does_not_fit(options: dict[str, Any], wrong: str) -> None:
    full = FULL.model_copy(update={"scale": Scale()})
    with pytest.raises(ValueError, match=wrong):
        ladder(setting(full=full), **options)


DEEP = {"type": "Chain", "chain": {"minDepth": 4, "maxDepth": 4, "strides": [2]}}
SOME = {"type": "Chain", "chain": {"minDepth": 4, "maxDepth": 4, "strides": [1, 2]}}


def test_a_rung_that_the_space_cannot_build() -> None:
    with pytest.raises(
        ValueError, match=r"axis resolution has a rung of 4, at which the search space builds no"
    ):
        ladder(setting(DEEP), axis="resolution", rungs=[4, 16])
    assert len(ladder(setting(SOME), axis="resolution", rungs=[4, 16])) == 3


def resolutions(resolution: int | None) -> Any:
    return experiment(
        space=DEEP,
        task={"resolution": resolution} if resolution else {},
        strategy={"type": "Random"},
        estimation={"type": "ASHA", "asha": {"axis": "resolution", "rungs": [4]}},
    )


def test_a_manifest_with_such_a_rung_is_refused_by_its_field() -> None:
    document = Document("m.yaml", {}, {("spec",): 3})
    [problem] = check(resolutions(16), document)
    assert problem.path == "spec.estimation.asha"
    assert "axis resolution has a rung of 4" in problem.message


def test_without_a_resolution_it_is_refused_once_the_data_is_known() -> None:
    document = Document("m.yaml", {}, {("spec",): 3})
    assert check(resolutions(None), document) == []
    with pytest.raises(ManifestError, match=r"spec.estimation.asha: axis resolution has a rung"):
        make_loop(resolutions(None))

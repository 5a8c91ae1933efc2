"""A default that is written out means the same as one that is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kinase.report import named
from kinase.report.data import ReportData
from kinase.report.gather import gather
from kinase.report.groups import differences, grouped
from kinase.space.presets import PRESETS
from tests.unit.experiment.helpers import experiment, make_loop


def read(name: str, spec: dict[str, Any]) -> ReportData:
    return replace(gather(make_loop(experiment(**spec))), name=name, store_uri=name)


def cell(**options: Any) -> dict[str, Any]:
    return {"space": {"type": "Cell", "cell": {"preset": "nasnet", **options}}}


def scale(name: str) -> dict[str, Any]:
    return getattr(PRESETS["nasnet"], name).model_dump()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({}, {"objective": {"metric": "val_accuracy", "goal": "maximize"}}),
        (
            {"objective": {"metric": "val_accuracy", "also": [{"metric": "params"}]}},
            {"objective": {"also": [{"metric": "params", "goal": "minimize"}]}},
        ),
        ({}, {"finalists": {"count": 2, "epochs": 4}}),
        ({}, {"task": {"dataset": "digits", "resolution": 8}}),
        ({"strategy": {"type": "Random"}}, {"strategy": {"type": "Random", "random": {}}}),
        (
            {"strategy": {"type": "Evolution"}},
            {"strategy": {"type": "Evolution", "evolution": {"population": 10, "sample": 5}}},
        ),
        ({"estimation": {"type": "Full"}}, {"estimation": {"type": "Full", "full": {}}}),
        (
            {"estimation": {"type": "LowerFidelity"}},
            {
                "estimation": {
                    "type": "LowerFidelity",
                    "lowerFidelity": {"epochs": 4, "resolution": 8},
                }
            },
        ),
        (
            {"estimation": {"type": "Morphism"}},
            {"estimation": {"type": "Morphism", "morphism": {"epochsPerChild": 2}}},
        ),
        (
            {},
            {
                "training": {
                    "epochs": 4,
                    "optimizer": {"type": "SGD", "sgd": {"decay": "weights"}},
                }
            },
        ),
        (cell(), cell(nodes=5, sameSource=True, concat="unused")),
        (cell(), cell(search=scale("search"), evaluation=scale("evaluation"))),
        (cell(), cell(ops=list(PRESETS["nasnet"].ops))),
        (
            {"space": {"type": "Tree"}},
            {"space": {"type": "Tree", "tree": {"stem": 16, "evaluationCells": 2}}},
        ),
        (
            {"space": {"type": "MobileNet"}},
            {"space": {"type": "MobileNet", "mobileNet": {"expansions": [3, 4, 6]}}},
        ),
    ],
)
def test_written_out_and_left_out_are_one_group(
    short: dict[str, Any], long: dict[str, Any]
) -> None:
    groups = grouped(named([read("short", short), read("long", long)]))
    assert [len(group.runs) for group in groups] == [2], differences(groups)


def test_a_lower_fidelity_that_is_the_full_one_can_be_compared_with_it() -> None:
    full, same = (
        read(kind, cell() | {"estimation": {"type": kind}}) for kind in ("Full", "LowerFidelity")
    )
    assert same.spec["estimation"]["lowerFidelity"]["cells"] == scale("search")["cells"]
    assert len(grouped(named([full, same]))) == 2

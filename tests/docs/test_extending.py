"""The examples of spaces, strategies and estimators of one's own do what their pages say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kinase.api.space import Space as SpaceModel
from kinase.estimation.testing import SETTING, EstimatorContract
from kinase.space import Frame, make_space
from kinase.strategy import derive_rng
from kinase.strategy.testing import StrategyContract
from tests.docs.blocks import blocks


def namespace(page: str) -> dict[str, Any]:
    """What a page's Python blocks define, run one after the other."""
    found: dict[str, Any] = {"__name__": "docs"}
    for block in blocks(page, "python"):
        exec(compile(block.text, block.place, "exec"), found)
    return found


class TestTheStrategyOfThePage(StrategyContract):
    @pytest.fixture
    def make(self) -> Any:
        cls = namespace("docs/strategies.md")["Threshold"]
        return lambda space, seed=0, objectives=1: cls(space, {}, seed, objectives)


def test_the_pages_own_contract_class_is_one() -> None:
    assert issubclass(namespace("docs/strategies.md")["TestThreshold"], StrategyContract)


def test_the_space_of_the_page() -> None:
    space = namespace("docs/search-spaces.md")["Towers"]({"maxHeight": 3})
    assert space.size().count == len(list(space.enumerate())) == 9
    architecture = space.sample(derive_rng(0))
    space.validate(architecture)
    for seed in range(20):
        mutated = space.mutate(architecture, derive_rng(seed))
        space.validate(mutated)
        assert space.key(mutated) != space.key(architecture)
    assert space.graph(architecture, Frame((1, 8, 8), 10)).params() > 0


class TestTheEstimatorOfThePage(EstimatorContract):
    @pytest.fixture
    def make(self) -> Any:
        cls = namespace("docs/estimators.md")["Quick"]
        return lambda setting: cls({"share": 0.25}, setting)

    def test_its_ladder(self, make: Any) -> None:
        assert [grant.until for grant in make(SETTING).ladder] == [7, 27]


def test_the_estimators_page_has_a_contract_class_and_a_simulation() -> None:
    found = namespace("docs/estimators.md")
    assert issubclass(found["TestQuick"], EstimatorContract)
    session = found["session"]
    assert session.begun()[0] > 2 * session.begun()[1] - 2 > 0
    assert session.spent <= 300


def test_the_network_of_the_page_on_morphisms_grows() -> None:
    assert len(namespace("docs/morphisms.md")["places"]) == 2


@pytest.mark.parametrize(
    ("page", "models"),
    [
        ("chain", [{"type": "Chain"}]),
        ("multi-branch", [{"type": "MultiBranch"}]),
        (
            "cell",
            [
                {"type": "Cell", "cell": {"nodes": 2}},
                {"type": "Cell", "cell": {"preset": "nasnet", "nodes": 2}},
            ],
        ),
    ],
)
def test_the_architectures_of_the_pages_are_valid(page: str, models: list[dict[str, Any]]) -> None:
    found = blocks(f"docs/methods/{page}.md", "json")
    for block, model in zip(found, models, strict=True):
        make_space(SpaceModel.model_validate(model)).validate(json.loads(block.text))


def test_the_trial_contracts_examples_are_of_its_models() -> None:
    from kinase.api.trial import TrialJob, TrialProgress, TrialResult

    job, progress, result = (json.loads(b.text) for b in blocks("docs/trial-contract.md", "json"))
    read = TrialJob.model_validate(job)
    make_space(read.space).validate(read.architecture)
    TrialResult.model_validate(result)
    known = {field.alias for field in TrialProgress.model_fields.values()}
    assert set(progress) == known

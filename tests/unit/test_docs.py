"""The examples in the documents do what the documents say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kinase.api import NASExperiment
from kinase.api.space import Space as SpaceModel
from kinase.space import Frame, make_space
from kinase.strategy import derive_rng
from kinase.strategy.testing import StrategyContract

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def namespace(page: str) -> dict[str, Any]:
    """What a page's Python blocks define, run one after the other."""
    found: dict[str, Any] = {"__name__": "docs"}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), found)
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


def test_architectures_of_the_page_are_valid() -> None:
    chain, branches, cell = (json.loads(b) for b in blocks("docs/search-spaces.md", "json"))
    for model, architecture in (
        ({"type": "Chain"}, chain),
        ({"type": "MultiBranch"}, branches),
        ({"type": "Cell", "cell": {"nodes": 2}}, cell),
    ):
        make_space(SpaceModel.model_validate(model)).validate(architecture)


def test_the_readmes_manifest_is_valid() -> None:
    import yaml

    [text] = blocks("README.md", "yaml")
    NASExperiment.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "page", sorted(p.relative_to(ROOT) for p in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]), ids=str
)
def test_links_lead_somewhere(page: Path) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_the_trial_contracts_examples_are_of_its_models() -> None:
    from kinase.api.trial import TrialJob, TrialProgress, TrialResult

    job, progress, result = (json.loads(b) for b in blocks("docs/trial-contract.md", "json"))
    read = TrialJob.model_validate(job)
    make_space(read.space).validate(read.architecture)
    TrialResult.model_validate(result)
    known = {field.alias for field in TrialProgress.model_fields.values()}
    assert set(progress) == known

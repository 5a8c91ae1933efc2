"""One-shot searches: one supernet, candidates that cost no epochs, a control that shares it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from kinase.api import Kind, NASExperiment, Outcome, TaskInfo, TrialJob
from kinase.api.load import ManifestError
from kinase.api.supernet import Derived
from kinase.api.trial import Cost, TrialResult
from kinase.engine import Event, Finished
from kinase.engine.tabular import TabularEngine
from kinase.experiment import budget
from kinase.experiment.journal import Journal
from kinase.experiment.loop import Loop
from kinase.experiment.trial_record import TrialRecord
from kinase.space import derive_rng, make_space
from kinase.store import Store
from kinase.store.memory import MemoryStore
from tests.unit.experiment.helpers import INFO, WRITES, experiment, make_loop, told
from tests.unit.experiment.test_loop import Killed, Mortal

CELL = {
    "type": "Cell",
    "cell": {"preset": "nasbench201", "search": {"cells": 1, "filters": 4}},
}
KNOWS = INFO.model_copy(update={"supports": ("until", "measure", "supernet")})


def one_shot(strategy: str = "DARTS", candidates: int = 20, **spec: Any) -> NASExperiment:
    return experiment(
        **{
            "space": CELL,
            "strategy": {"type": strategy},
            "training": {"epochs": 4},
            "estimation": {"type": "OneShot", "oneShot": {"candidates": candidates, "epochs": 6}},
            "budget": {"epochs": 30},
            **spec,
        }
    )


def checking(check: int, candidates: int = 20, **options: Any) -> dict[str, Any]:
    """A rank check of so many candidates."""
    one_shot = {"candidates": candidates, "epochs": 6, "check": check, **options}
    return {"estimation": {"type": "OneShot", "oneShot": one_shot}}


SPACE = make_space(one_shot().spec.space)
LEFT = tuple(
    Derived(architecture=SPACE.sample(derive_rng(5, number)), score=1 - number / 10)
    for number in range(2)
)


def score(job: TrialJob) -> dict[str, float]:
    """A supernet's accuracy is that of a mixture; a candidate's depends on its skips."""
    if job.supernet is not None:
        return {"val_accuracy": 0.4}
    text = repr(job.architecture)
    return {"val_accuracy": 0.5 + 0.05 * text.count("conv") + 0.01 * text.count("skip")}


def engine(derived: tuple[Derived, ...] = LEFT, slots: int = 1, **options: Any) -> TabularEngine:
    return TabularEngine(options.pop("evaluate", score), KNOWS, slots, lambda job: derived)


def run(manifest: NASExperiment, store: Store | None = None, **options: Any) -> Loop:
    loop = make_loop(manifest, store, engine=engine(**options), info=KNOWS)
    loop.run()
    return loop


def test_the_supernet_comes_first_and_all_else_is_scored_with_it() -> None:
    loop = run(one_shot())
    trials = list(loop.state.trials.values())
    assert trials[0].kind is Kind.SUPERNET
    assert trials[0].plan is not None
    assert trials[0].plan.relaxation.type == "DARTS"
    assert trials[0].cost.epochs == 6
    scored = [t for t in trials if t.kind in (Kind.SEARCH, Kind.CONTROL)]
    assert {t.slice.prefix for t in scored if t.slice is not None} == {"trials/00000"}
    assert all(t.slice is not None and t.cost.epochs == 0 for t in scored)
    assert [t.architecture for t in scored if t.kind is Kind.SEARCH] == [
        each.architecture for each in LEFT
    ]
    finals = [t for t in trials if t.kind is Kind.FINAL]
    assert len(finals) == 2
    assert all(t.slice is None and t.cost.epochs == 4 for t in finals), "trained from scratch"
    assert loop.state.spent.epochs == 6 + 2 * 4


def test_the_control_has_its_share_however_few_the_strategy_proposes() -> None:
    counts = run(one_shot(candidates=50)).state.counts
    assert counts == {Kind.SUPERNET: 1, Kind.SEARCH: 2, Kind.CONTROL: 10, Kind.FINAL: 2}


def test_a_collapsed_choice_still_gives_the_controls_winner() -> None:
    skips = {"normal": [[["skip_connect", 0]], [["skip_connect", n] for n in range(2)],
                        [["skip_connect", n] for n in range(3)]]}  # fmt: skip
    SPACE.validate(skips)
    loop = run(one_shot(candidates=50), derived=(Derived(architecture=skips),))
    best = loop.best
    assert best is not None
    assert best.kind is Kind.CONTROL


def test_what_the_choices_led_to_is_trained_whatever_its_score() -> None:
    def worst(job: TrialJob) -> dict[str, float]:
        mine = job.architecture == LEFT[0].architecture
        return {"val_accuracy": 0.01} if mine and job.slice is not None else score(job)

    loop = run(one_shot(candidates=50), evaluate=worst)
    first, second = loop.state.of_kind(Kind.FINAL)
    assert first.architecture == LEFT[0].architecture
    assert loop.state.trials[second.parents[0]].kind is Kind.CONTROL, "the best by score"


def test_a_strategy_that_samples_scores_as_many_as_were_asked_for() -> None:
    state = run(one_shot("Evolution", 30)).state
    assert state.ended == "30 candidates are scored"
    assert state.counts[Kind.SEARCH] + state.counts[Kind.CONTROL] == 30
    plan = state.trials[0].plan
    assert plan is not None
    assert plan.relaxation.type == "Uniform"


def test_the_budget_of_trials_is_another_limit() -> None:
    state = run(one_shot("Random", 30, budget={"trials": 12})).state
    assert state.searched == 12


def test_finalists_begin_with_the_supernet_where_the_manifest_says_so() -> None:
    shared = {"candidates": 10, "epochs": 6, "finalists": "inherit"}
    loop = run(one_shot(estimation={"type": "OneShot", "oneShot": shared}))
    finals = list(loop.state.of_kind(Kind.FINAL))
    assert all(t.slice is not None and t.slice.prefix == "trials/00000" for t in finals)
    assert all(t.cost.epochs == 4 for t in finals), "and are trained in full"
    for final in finals:
        assert final.key == loop.state.trials[final.parents[0]].key


@pytest.mark.parametrize("strategy", ["DARTS", "Evolution"])
@pytest.mark.parametrize("after", [False, True])
@WRITES
def test_killed_at_every_write_it_ends_alike(strategy: str, after: bool, every: int) -> None:
    manifest = one_shot(strategy, **checking(3, 12), budget={"epochs": 40})
    undisturbed = run(manifest)
    entries = list(Journal(undisturbed.store).replay())
    for moment in range(1, undisturbed.journal.length + 1, every):
        store = MemoryStore()
        runs = Counter[int]()

        def evaluate(job: TrialJob, runs: Counter[int] = runs) -> dict[str, float]:
            runs[job.trial] += 1
            return score(job)

        with pytest.raises(Killed):
            run(manifest, Mortal(store, [moment], after), evaluate=evaluate)
        again = run(manifest, store, evaluate=evaluate)
        assert told(again) == told(undisturbed)
        assert len(list(Journal(store).replay())) == len(entries)
        assert sum(runs.values()) <= len(runs) + 1


def test_nothing_is_scored_before_the_supernet_is_trained() -> None:
    loop = make_loop(one_shot("Random", budget={"epochs": 30, "parallelism": 4}),
                     engine=engine(slots=4), info=KNOWS)  # fmt: skip
    seen: list[Kind] = []
    launch = loop.engine.launch

    def launched(job: TrialJob) -> None:
        running = loop.engine.running()
        assert job.kind is Kind.SUPERNET or 0 not in running
        seen.append(job.kind)
        launch(job)

    loop.engine.launch = launched  # type: ignore[method-assign]
    loop.run()
    assert seen.count(Kind.SUPERNET) == 1


def checks(loop: Loop) -> list[TrialRecord]:
    return [t for t in loop.state.trials.values() if t.operation == "rank check"]


def test_a_rank_check_trains_candidates_that_no_score_has_chosen() -> None:
    loop = run(one_shot("Random", **checking(5, 40), budget={"epochs": 6 + 7 * 4}))
    found = checks(loop)
    trials = loop.state.trials
    scored = [t for t in trials.values() if t.slice is not None]
    assert len(scored) == 40
    assert len({t.key for t in found}) == 5
    for trial in found:
        [parent] = trial.parents
        assert trials[parent].key == trial.key
        assert trials[parent].slice is not None
        assert (trial.kind, trial.slice, trial.cost.epochs) == (Kind.FINAL, None, 4)
    best = sorted(scored, key=loop.losses)[:5]
    assert {t.key for t in found} != {t.key for t in best}
    assert loop.state.finalists == 2, "they take no finalist's place"
    assert loop.state.spent.epochs == 6 + 7 * 4, "each epoch of the budget"
    other = run(one_shot("Random", **checking(5, 40), budget={"epochs": 34}, seed=1))
    assert {t.parents for t in checks(other)} != {t.parents for t in found}


def test_a_rank_check_of_more_than_were_scored_trains_all() -> None:
    assert len(checks(run(one_shot("Random", **checking(9, 4), budget={"epochs": 60})))) == 4


def test_its_epochs_are_kept_back_from_the_search() -> None:
    """A search that trains its candidates would spend them."""
    manifest = one_shot(**checking(3), budget={"epochs": 40})
    state = make_loop(manifest, engine=engine(), info=KNOWS).state
    assert budget.final_networks(manifest.spec, state) == 2 + 3
    full = make_loop(manifest, engine=engine(), info=KNOWS).final_fidelity
    assert budget.epochs_left(manifest.spec, state, full) == 40 - 5 * 4
    assert manifest.spec.epochs_for(0) == 6 + 5 * 4, "with the supernet"


def test_a_search_that_continues_does_not_ask_for_its_rank_check_again() -> None:
    def manifest(trials: int) -> NASExperiment:
        return one_shot("Random", **checking(5, 30), budget={"epochs": 60, "trials": trials})

    store = MemoryStore()
    first = run(manifest(3), store)
    assert len(checks(first)) == 3
    again = run(manifest(30), store)
    assert again.state.searched == 30
    assert len(checks(again)) == 5, "the others are drawn of all"
    assert [t.number for t in checks(again)][:3] == [t.number for t in checks(first)]
    before = replace(again.state, finalists_before=again.state.finalists)
    assert budget.final_networks(again.spec, before) == 2, "finalists alone may follow"


class Fails(TabularEngine):
    """The supernet ends with an outcome and leaves nothing."""

    outcome = Outcome.FAILED

    def poll(self, timeout: float | None) -> list[Event]:
        job = self._jobs.popleft()
        found = TrialResult(
            trial=job.trial, attempt=job.attempt, outcome=self.outcome, cost=Cost(epochs=2),
            message="out of memory",
        )  # fmt: skip
        return [Finished(job.trial, found)]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.INFEASIBLE])
def test_a_supernet_that_fails_ends_the_search_and_says_why(outcome: Outcome) -> None:
    fails = Fails(score, KNOWS)
    fails.outcome = outcome
    loop = make_loop(one_shot(), engine=fails, info=KNOWS)
    state = loop.run()
    assert state.ended == "the supernet, trial 0, left no weights: out of memory"
    assert state.finished is not None
    assert state.finished.winner is None
    assert "out of memory" in state.finished.message
    assert state.spent.epochs == 2, "what it cost is charged"


def test_what_is_derived_is_checked_before_it_counts() -> None:
    loop = run(one_shot(), derived=(Derived(architecture={"normal": [["conv"]]}), LEFT[0]))
    assert loop.state.trials[0].derived == (LEFT[0],)
    assert loop.state.counts[Kind.SEARCH] == 1


def test_where_nothing_is_derived_the_end_says_so() -> None:
    loop = run(one_shot(control={"share": 0}), derived=(Derived(architecture={"edges": [1]}),))
    assert loop.state.finished is not None
    assert loop.state.finished.message.endswith(
        "measured: the supernet's choices have led to no architecture of the space"
    )


def test_a_space_without_a_supernet_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"spec\.estimation\.oneShot.*has no supernet"):
        run(one_shot("Random", space={"type": "Cell", "cell": {"preset": "nasnet"}}))


def test_settings_of_the_training_share_no_supernet() -> None:
    settings = {"learningRate": {"min": 0.01, "max": 1}}
    with pytest.raises(ManifestError, match="one supernet is trained with one set of settings"):
        run(one_shot("Random", space={**CELL, "training": settings}))


@pytest.mark.parametrize("space", ["Macro", "ChoiceBlocks"])
def test_a_part_of_the_channels_is_for_cells(space: str) -> None:
    with pytest.raises(ManifestError, match="only cells have operations that see a part of"):
        run(one_shot("PCDARTS", space={"type": space}))


def test_a_supernet_without_a_kind_of_cell_is_refused() -> None:
    small = {"type": "Cell", "cell": {"preset": "darts", "search": {"cells": 1, "filters": 4}}}
    with pytest.raises(ManifestError, match="a supernet of 1 cell has no reduction cell"):
        run(one_shot("DARTS", space=small))


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("GDAS", {"smooth": {}}, "smooth is for DARTS, PCDARTS and GAEA, and choices are made by"),
        ("Random", {"progressive": {}}, "progressive is for DARTS, .* and DrNAS, .* by Uniform"),
        ("GAEA", {"beta": {}}, "beta is for DARTS, .* by GAEA"),
        ("Evolution", {"cost": {}}, "cost is for DARTS, .* by Uniform"),
        ("DARTS", {"progressive": {}, "selection": {}}, "progressive must not be set with selec"),
        ("DARTS", {"frozen": 6}, "frozen: the choices do not learn in the first 6 of 6 epochs"),
    ],
)
def test_options_that_the_relaxation_cannot_use_are_refused_before_a_trial(
    strategy: str, options: dict[str, Any], message: str
) -> None:
    shared = {"type": "OneShot", "oneShot": {"epochs": 6, **options}}
    with pytest.raises(ManifestError, match=rf"spec\.estimation\.oneShot: {message}"):
        run(one_shot(strategy, estimation=shared))


@pytest.mark.parametrize(
    ("sampling", "space", "message"),
    [
        ("OFA", {"type": "Macro"}, "the space Macro has none: use Uniform, or the space MobileN"),
        ("OFA", CELL, "the space Cell has none: use Uniform"),
        ("OFA", {"type": "Chain"}, "the space Chain has none: use Uniform"),
        ("FairNAS", {"type": "Cell"}, "nodes of the space Cell take only some of their inputs"),
    ],
)
def test_a_sampling_that_the_space_cannot_have_is_refused_before_a_trial(
    sampling: str, space: dict[str, Any], message: str
) -> None:
    shared = {"type": "OneShot", "oneShot": {"epochs": 6, "sampling": {"type": sampling}}}
    with pytest.raises(ManifestError, match=rf"oneShot: the sampling {sampling} .*{message}"):
        run(one_shot("Random", space=space, estimation=shared))


@pytest.mark.parametrize(
    ("space", "sampling"), [("Chain", "Uniform"), ("MultiBranch", "Uniform"), ("MobileNet", "OFA")]
)
def test_slices_have_no_choices_to_select(space: str, sampling: str) -> None:
    options = {"epochs": 6, "sampling": {"type": sampling}, "selection": {}}
    shared = {"type": "OneShot", "oneShot": options}
    with pytest.raises(ManifestError, match=f"oneShot: selection must not be set: .* {space}"):
        run(one_shot("Random", space={"type": space}, estimation=shared))


def test_a_trainer_that_knows_no_supernet_is_refused() -> None:
    old = TaskInfo.model_validate({**INFO.model_dump(), "supports": ("until",)})
    with pytest.raises(ManifestError, match="requires a trainer that supports supernet"):
        make_loop(one_shot(), engine=engine(), info=old).run()


def test_without_an_estimation_it_is_one_shot_where_the_strategy_learns_choices() -> None:
    manifest = one_shot("GDAS", estimation={"type": "Auto"})
    assert manifest.spec.settled().estimation.type == "OneShot"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"estimation": {"type": "Full"}}, "estimation.type Full has none: use the type OneShot"),
        (
            {"estimation": {"type": "OneShot", "oneShot": {"sampling": {"type": "Uniform"}}}},
            "estimation.oneShot.sampling must not be set: strategy.type DARTS says",
        ),
        (
            {"estimation": {"type": "Auto", "stopping": {"type": "Median"}}},
            "estimation.stopping must not be set: strategy.type DARTS trains no candidates",
        ),
        (
            {"strategy": "Pruning"},
            "strategy.type Pruning requires the space type Fabric; space.type is Cell",
        ),
        (
            {"estimation": {"type": "OneShot", "screen": {}}},
            "whose candidates are not trained, so screen must not be set",
        ),
        (
            {"strategy": "PCDARTS", **checking(1)},
            "estimation.oneShot.check must not be set with PCDARTS, whose candidates are trained",
        ),
        (
            {**checking(3), "budget": {"epochs": 25}},
            "finalists, baselines and the rank check take 5 x 4 = 20; it must be at least 26",
        ),
        (
            {"budget": {"epochs": 13}},
            "one trial takes 6 and finalists and baselines take 2 x 4 = 8; it must be at least 14",
        ),
    ],
)
def test_what_does_not_fit_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one_shot(**spec)

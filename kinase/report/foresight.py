"""Whether a search's budget can show that the strategy is better than random search, and which
budget could."""

from __future__ import annotations

from kinase.api.ladder import ladder_of
from kinase.api.spec import ExperimentSpec
from kinase.report.verdict import LEVEL, TOP, critical
from kinase.words import counted

FARTHEST = 20_000
"""Maximum number of trials in the search for a sufficient budget."""


def foresight(spec: ExperimentSpec) -> str | None:
    """Why a search with this budget cannot show that its strategy is better than random search, and
    which budget could. None if it can, if the strategy is random search, or if the budget only
    limits time."""
    spec = spec.settled()
    trials = spec.paid_trials
    if trials is None or spec.strategy.type == "Random":
        return None
    if not spec.control.share:
        return "there will be no verdict on the strategy: control.share is 0"
    if _can_tell(spec, trials):
        return None
    ours, theirs = _sides(spec, trials)
    start = min(_random_start(spec, trials), ours)
    after = f" after its random start of {start}" if start else ""
    text = (
        f"there will be no verdict that the strategy is better than random search: the budget pays "
        f"for {counted(ours - start, 'trial')} of the strategy{after} and for {theirs} of the "
        "random control"
    )
    wanted = next((n for n in range(trials + 1, FARTHEST) if _can_tell(spec, n)), None)
    if wanted is None:
        return f"{text}; raise control.share"
    return f"{text}; {_budget(spec, wanted)} would do"


def _sides(spec: ExperimentSpec, trials: int) -> tuple[int, int]:
    """The number of trials of the strategy and of the control."""
    theirs = int(trials * spec.control.share)
    return trials - theirs, theirs


def _random_start(spec: ExperimentSpec, trials: int) -> int:
    """Number of the strategy's trials that the verdict ignores, as far as its options determine
    it."""
    strategy = spec.strategy
    if strategy.evolution is not None:
        return strategy.evolution.sized(_sides(spec, trials)[0]).population or 0
    if strategy.large_scale_evolution is not None:
        return strategy.large_scale_evolution.population
    for kind in (strategy.local_search, strategy.nash, strategy.lemonade):
        if kind is not None:
            return kind.initial
    return 0


def _can_tell(spec: ExperimentSpec, trials: int) -> bool:
    """Whether the verdict would be "better" if all of the strategy's networks are."""
    ours, theirs = _sides(spec, trials)
    start = _random_start(spec, trials)
    if ours <= start or theirs < 1:
        return False
    inheriting = spec.estimation.inheriting
    if inheriting is None:
        ours -= start  # otherwise the children's weights continue the training of the start
    each = spec.epochs_for(1) - spec.epochs_for(0) or 1  # candidates that are scored are counted
    ladder = ladder_of(spec)
    random = spec.search_epochs if inheriting is not None else each
    if inheriting is not None and ladder is not None:
        random = ladder[1].mean_epochs(spec.training.epochs)
    share = ours * each / (ours * each + theirs * random)
    return critical(max(1, theirs // TOP), share, LEVEL / 2, ours) is not None


def _budget(spec: ExperimentSpec, trials: int) -> str:
    """The limits that pay for this number of trials."""
    limits = [f"budget.trials {trials}"] if spec.budget.trials is not None else []
    if spec.estimation.one_shot is not None:
        limits.append(f"estimation.oneShot.candidates {trials}")
    if spec.budget.epochs is not None and spec.epochs_for(1) > spec.epochs_for(0):
        limits.append(f"budget.epochs {spec.epochs_for(trials)}")
    return " with ".join(limits)

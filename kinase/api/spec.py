"""`spec`: what to search, how, and at what cost; checks that span several of its fields."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from kinase.api._base import Keyed, Model, Rule
from kinase.api.auto import OWN_TRAINER, chosen, climbs
from kinase.api.budget import Baseline, Budget, Control, Finalists
from kinase.api.estimation import Estimation
from kinase.api.ladder import check_ladder, first_epochs, ladder_of, ladder_rules
from kinase.api.objective import (
    RESOURCE_METRICS,
    TASK_METRICS,
    Objective,
    check_objective,
    objective_rules,
)
from kinase.api.pod import ControllerTemplate, TrialTemplate
from kinase.api.recipe import DROPPING
from kinase.api.space import Space
from kinase.api.storage import Retention, Storage
from kinase.api.strategy import Strategy
from kinase.api.supernet import CANDIDATES, TRAINED
from kinase.api.supernet_rules import check_supernet, supernet_rules
from kinase.api.task import Task, Training

_LOWER = "self.estimation.?lowerFidelity"
_CHILDREN = {name: f"self.estimation.?{name}.?epochsPerChild" for name in ("morphism", "inherit")}
_RECIPE = "self.space.?training"
_FINAL_EPOCHS = "self.finalists.?epochs.orValue(self.training.epochs)"
_SUPERNET = (
    "(self.estimation.?oneShot.?epochs.orValue(self.training.epochs) + "
    "(self.strategy.type == 'PCDARTS' ? self.training.epochs : 0))"
)
_SEARCH_EPOCHS = first_epochs(f"({climbs()} ? 1 : {_LOWER}.?epochs.orValue({_SUPERNET}))")
_CHECK = "self.estimation.?oneShot.?check.orValue(0)"
_NETWORKS = f"(self.finalists.count + (has(self.baselines) ? size(self.baselines) : 0) + {_CHECK})"
_TRAINED = (
    f"{{{_CHECK} > 0 ? 'finalists, baselines and the rank check' : 'finalists and baselines'}}"
)
_LEAST_EPOCHS = f"{_SEARCH_EPOCHS} + {_NETWORKS} * {_FINAL_EPOCHS}"
"""CEL of what `final_epochs`, `search_epochs` and `_budget_pays_for_one_trial` compute."""
_NO_SHARES = [
    name
    for known in (*TASK_METRICS.values(), RESOURCE_METRICS)
    for name, facts in known.items()
    if not facts.share
]
"""Built-in metrics that are not shares in 0..1."""
_ACCURACY = (
    f"(!(self.objective.metric in {list(dict.fromkeys(_NO_SHARES))}) && "
    "(!has(self.objective.goal) || self.objective.goal == 'maximize'))"
)
"""CEL: the objective can be an accuracy."""


ONLY_FOR = {"EAS": "Chain", "PathLevel": "Tree", "Pruning": "Fabric"}
"""The type of space that a strategy works on, if it is one alone."""
_ONLY_FOR = "strategy.type {strategy} requires the space type {space}; space.type is {found}"


class ExperimentSpec(Model):
    """What to search, how, and at what cost."""

    task: Task = Task()
    """The learning task and its data."""
    training: Training = Training()
    """How to train a network at full fidelity."""
    objective: Objective = Objective()
    """What the search optimizes."""
    space: Space
    """The search space: the set of architectures that can be found."""
    strategy: Strategy
    """The search strategy: how to explore the space."""
    estimation: Estimation = Estimation(type="Auto")
    """Performance estimation: how to score a candidate cheaply."""
    budget: Budget
    """Limits on what the experiment spends."""
    control: Control = Control()
    """The random-search control."""
    finalists: Finalists = Finalists()
    """The best candidates, retrained from scratch at full fidelity."""
    baselines: Annotated[tuple[Baseline, ...], Field(max_length=8), Keyed("name")] = ()
    """Hand-designed networks, trained like the finalists and charged to the budget."""
    storage: Storage = Storage()
    """Where the journal, weights and results are stored."""
    controller: ControllerTemplate = ControllerTemplate()
    """How to run the controller on a cluster."""
    trial_template: TrialTemplate = TrialTemplate()
    """How to run a trial."""
    retention: Retention = Retention()
    """How long finished objects stay on the cluster."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of all random choices in the search and the training."""
    deterministic: bool | None = None
    """Whether a search with several trials at once proposes the same architectures in every run
    with this seed. Results are then reported to the strategy in the order of the trials, and a slot
    stays idle while an older trial is still running. Default: false, results are reported as trials
    end."""
    suspend: bool = False
    """Whether the experiment is paused: no trial starts, and running trials stop at a
    checkpoint."""

    rules: ClassVar = (
        Rule(
            f"{_LOWER}.?epochs.orValue(1) <= {_FINAL_EPOCHS}",
            f"estimation.lowerFidelity.epochs {{{_LOWER}.?epochs.orValue(1)}} is above the full "
            f"fidelity's {{{_FINAL_EPOCHS}}} (finalists.epochs or training.epochs)",
            ".estimation.lowerFidelity.epochs",
        ),
        Rule(
            "!has(self.task.resolution) || "
            f"{_LOWER}.?resolution.orValue(1) <= self.task.resolution",
            f"estimation.lowerFidelity.resolution {{{_LOWER}.?resolution.orValue(1)}} is above "
            "the full fidelity's {self.task.resolution} (task.resolution)",
            ".estimation.lowerFidelity.resolution",
        ),
        Rule(
            f"self.space.type == 'Cell' || !{_LOWER}.?cells.hasValue()",
            "estimation.lowerFidelity.cells requires the space type Cell; "
            "space.type is {self.space.type}",
            ".estimation.lowerFidelity.cells",
            "Forbidden",
        ),
        Rule(
            f"self.space.type != 'Model' || {_LOWER}.?filterFraction.orValue(1.0) == 1.0",
            "estimation.lowerFidelity.filterFraction is not supported by the space type Model: "
            "an existing network cannot be built narrower",
            ".estimation.lowerFidelity.filterFraction",
            "Forbidden",
        ),
        Rule(
            "self.task.type != 'Regression' || self.training.labelSmoothing == 0.0",
            "training.labelSmoothing is for classes and labels; task.type is Regression: remove it",
            ".training.labelSmoothing",
        ),
        Rule(
            f"self.training.optimizer.type == 'SGD' || !{_RECIPE}.?momentum.hasValue()",
            "space.training.momentum is for SGD; training.optimizer.type is "
            "{self.training.optimizer.type}: remove it",
            ".space.training.momentum",
            "Forbidden",
        ),
        Rule(
            f"self.space.type in {list(DROPPING)} || !{_RECIPE}.?dropPath.hasValue()",
            "space.training.dropPath drops edges of cells; space.type {self.space.type} has none: "
            "remove it",
            ".space.training.dropPath",
            "Forbidden",
        ),
        Rule(
            f"self.task.type != 'Regression' || !{_RECIPE}.?labelSmoothing.hasValue()",
            "space.training.labelSmoothing is for classes and labels; task.type is Regression: "
            "remove it",
            ".space.training.labelSmoothing",
            "Forbidden",
        ),
        Rule(
            f"!(self.strategy.type in ['EAS', 'PathLevel']) || !{_RECIPE}.hasValue()",
            "strategy.type {self.strategy.type} has a policy for networks only: remove "
            "space.training, or choose another strategy",
            ".space.training",
            "Forbidden",
        ),
        *(
            Rule(
                f"{child}.orValue(1) <= self.training.epochs",
                f"estimation.{name}.epochsPerChild {{{child}.orValue(1)}} is above training.epochs "
                "{self.training.epochs}: a child needs no more epochs than a network trained from "
                "scratch",
                f".estimation.{name}.epochsPerChild",
            )
            for name, child in _CHILDREN.items()
        ),
        *ladder_rules(),
        Rule(
            "!self.estimation.?freezeThaw.?every.hasValue() || "
            "self.estimation.freezeThaw.every < self.training.epochs",
            "estimation.freezeThaw.every {self.estimation.?freezeThaw.?every.orValue(0)} is not "
            "below training.epochs {self.training.epochs}, so no trial would pause; lower it",
            ".estimation.freezeThaw.every",
        ),
        *objective_rules(),
        Rule(
            "self.strategy.type != 'LEMONADE' || (has(self.objective.also) && "
            f"self.objective.also.exists(m, m.metric in {list(RESOURCE_METRICS)}))",
            "strategy.type LEMONADE trades accuracy against a metric that is known before "
            f"training: objective.also must name one of {', '.join(RESOURCE_METRICS)}",
            ".objective.also",
            "Required",
        ),
        Rule(
            "self.strategy.type != 'LEMONADE' || "
            f"!(self.objective.metric in {list(RESOURCE_METRICS)})",
            "objective.metric '{self.objective.metric}' is known before training, but "
            "strategy.type LEMONADE needs a metric that training measures: move it to "
            "objective.also",
            ".objective.metric",
        ),
        *supernet_rules(),
        *(
            Rule(
                f"self.strategy.type != '{strategy}' || self.space.type in ['{space}', 'Custom']",
                _ONLY_FOR.format(strategy=strategy, space=space, found="{self.space.type}"),
                ".strategy.type",
            )
            for strategy, space in ONLY_FOR.items()
        ),
        Rule(
            "self.strategy.type != 'EAS' || "
            f"self.strategy.?eas.?reward.orValue('tan') != 'tan' || {_ACCURACY}",
            "strategy.eas.reward tan requires an accuracy that is maximized; for "
            "{self.objective.metric} use reward: identity",
            ".strategy.eas.reward",
        ),
        Rule(
            "self.strategy.type != 'PathLevel' || "
            f"self.strategy.?pathLevel.?reward.orValue('tan') != 'tan' || {_ACCURACY}",
            "strategy.pathLevel.reward tan requires an accuracy that is maximized; for "
            "{self.objective.metric} use reward: identity",
            ".strategy.pathLevel.reward",
        ),
        Rule(
            f"!has(self.budget.epochs) || self.budget.epochs >= {_LEAST_EPOCHS}",
            f"budget.epochs {{self.budget.epochs}} is too small: one trial takes "
            f"{{{_SEARCH_EPOCHS}}} and {_TRAINED} take {{{_NETWORKS}}} x "
            f"{{{_FINAL_EPOCHS}}}; it must be at least {{{_LEAST_EPOCHS}}}",
            ".budget.epochs",
        ),
    )

    @property
    def final_epochs(self) -> int:
        """Epochs of a finalist's training."""
        return self.finalists.epochs or self.training.epochs

    @property
    def search_epochs(self) -> int:
        """Epochs of one trial of the search, or those with which it may end at the least; with
        those of the supernet that comes first."""
        spec = self.settled()
        if (found := ladder_of(spec)) is not None:
            return found[1].cheapest or self.training.epochs
        first = spec.estimation.lower_fidelity or spec.estimation.one_shot
        epochs = (first.epochs if first else None) or self.training.epochs
        return epochs + (self.training.epochs if self._trains_candidates else 0)

    @property
    def paid_trials(self) -> int | None:
        """Approximate number of trials that the budget pays for, including the control's. None if
        only time is limited."""
        found = [self.budget.trials] if self.budget.trials is not None else []
        if (shared := self.settled().estimation.one_shot) is not None:
            found.append(shared.candidates or (TRAINED if self._trains_candidates else CANDIDATES))
        if self.budget.epochs is not None and (each := self._epochs_each):
            found.append((self.budget.epochs - self.epochs_for(0)) // each)
        return min(found) if found else None

    @property
    def search_trials(self) -> int | None:
        """The same without the control's trials."""
        paid = self.paid_trials
        return None if paid is None else round(paid * (1 - self.control.share))

    @property
    def _trains_candidates(self) -> bool:
        """Whether the candidates of a supernet are trained: none of them has its weights."""
        return self.strategy.type == "PCDARTS"

    @property
    def _epochs_each(self) -> int:
        spec = self.settled()
        if spec.estimation.one_shot is not None:
            return self.training.epochs if self._trains_candidates else 0
        if (inherit := spec.estimation.inherit) is not None:  # nearly all are children
            whole = inherit.child_epochs(self.training.epochs)
            first = inherit.first(whole)
            return first + -(-(whole - first) // inherit.eta)
        if (found := ladder_of(spec)) is not None:
            return found[1].mean_epochs(self.training.epochs)
        morphism = spec.estimation.morphism
        return morphism.child_epochs(self.training.epochs) if morphism else self.search_epochs

    @property
    def rank_check(self) -> int:
        """Number of candidates that are trained to report how well a supernet ranks."""
        one_shot = self.estimation.one_shot
        return one_shot.check if one_shot is not None else 0

    def epochs_for(self, trials: int) -> int:
        """Epochs that a number of trials needs, plus those of the finalists, the baselines and the
        rank check, and of the supernet."""
        networks = self.finalists.count + len(self.baselines) + self.rank_check
        shared = self.settled().estimation.one_shot
        supernet = 0 if shared is None else shared.epochs or self.training.epochs
        return supernet + networks * self.final_epochs + trials * self._epochs_each

    def unpaid(self) -> str | None:
        """Why `budget.epochs` does not pay for one trial, the finalists, the baselines and the rank
        check; None if it does."""
        epochs = self.budget.epochs
        check = self.rank_check
        networks = self.finalists.count + len(self.baselines) + check
        named = "finalists, baselines and the rank check" if check else "finalists and baselines"
        final = networks * self.final_epochs
        least = self.search_epochs + final
        if epochs is None or epochs >= least:
            return None
        return (
            f"budget.epochs {epochs} is too small: one trial takes {self.search_epochs} and "
            f"{named} take {networks} x {self.final_epochs} = {final}; "
            f"it must be at least {least}"
        )

    def settled(self, supports: Collection[str] = OWN_TRAINER) -> Self:
        """A copy with the estimation that the type `Auto` means for this search.

        Args:
            supports: what the trainer supports; until it is known, that of Kinase's own.
        """
        if self.estimation.type != "Auto":
            return self
        return self.model_copy(update={"estimation": chosen(self, supports)})

    def sized(self) -> Self:
        """A copy with the defaults filled in that depend on the budget. They are fixed when an
        experiment starts: its record keeps them, so raising the budget does not change them."""
        evolution = self.strategy.evolution
        if evolution is None:
            return self
        whole = evolution.sized(self.search_trials)
        return self.model_copy(
            update={"strategy": self.strategy.model_copy(update={"evolution": whole})}
        )

    @model_validator(mode="after")
    def _fidelity_below_full(self) -> Self:
        lower = self.estimation.lower_fidelity
        if lower is None:
            return self
        if lower.epochs is not None and lower.epochs > self.final_epochs:
            raise ValueError(
                f"estimation.lowerFidelity.epochs {lower.epochs} is above the full fidelity's "
                f"{self.final_epochs} (finalists.epochs or training.epochs)"
            )
        full = self.task.resolution
        if lower.resolution is not None and full is not None and lower.resolution > full:
            raise ValueError(
                f"estimation.lowerFidelity.resolution {lower.resolution} is above the full "
                f"fidelity's {full} (task.resolution)"
            )
        if lower.cells is not None and self.space.cell is None:
            raise ValueError(
                "estimation.lowerFidelity.cells requires the space type Cell; "
                f"space.type is {self.space.type}"
            )
        if lower.filter_fraction != 1 and self.space.model is not None:
            raise ValueError(
                "estimation.lowerFidelity.filterFraction is not supported by the space type Model: "
                "an existing network cannot be built narrower"
            )
        return self

    @model_validator(mode="after")
    def _child_below_full(self) -> Self:
        inheriting = self.estimation.inheriting
        epochs = inheriting.epochs_per_child if inheriting else None
        if epochs is not None and epochs > self.training.epochs:
            name = "morphism" if self.estimation.morphism else "inherit"
            raise ValueError(
                f"estimation.{name}.epochsPerChild {epochs} is above training.epochs "
                f"{self.training.epochs}: a child needs no more epochs than a network trained "
                "from scratch"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_ladder(self) -> Self:
        check_ladder(self)
        freeze = self.estimation.freeze_thaw
        every = freeze.every if freeze is not None else None
        if every is not None and every >= self.training.epochs:
            raise ValueError(
                f"estimation.freezeThaw.every {every} is not below training.epochs "
                f"{self.training.epochs}, so no trial would pause; lower it"
            )
        return self

    @model_validator(mode="after")
    def _smooth_labels(self) -> Self:
        if self.task.type == "Regression" and self.training.label_smoothing:
            raise ValueError(
                "training.labelSmoothing is for classes and labels; task.type is Regression: "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _recipe_fits(self) -> Self:
        searched = self.space.training
        if searched is None:
            return self
        optimizer = self.training.optimizer.type
        if searched.momentum is not None and optimizer != "SGD":
            raise ValueError(
                f"space.training.momentum is for SGD; training.optimizer.type is {optimizer}: "
                "remove it"
            )
        if searched.drop_path is not None and self.space.type not in DROPPING:
            raise ValueError(
                f"space.training.dropPath drops edges of cells; space.type {self.space.type} has "
                "none: remove it"
            )
        if searched.label_smoothing is not None and self.task.type == "Regression":
            raise ValueError(
                "space.training.labelSmoothing is for classes and labels; task.type is Regression: "
                "remove it"
            )
        if self.strategy.type in ("EAS", "PathLevel"):
            raise ValueError(
                f"strategy.type {self.strategy.type} has a policy for networks only: remove "
                "space.training, or choose another strategy"
            )
        return self

    @model_validator(mode="after")
    def _metrics_of_the_task(self) -> Self:
        check_objective(self.objective, self.task.type)
        return self

    @model_validator(mode="after")
    def _something_cheap(self) -> Self:
        if self.strategy.type != "LEMONADE":
            return self
        if self.objective.metric in RESOURCE_METRICS:
            raise ValueError(
                f"objective.metric {self.objective.metric!r} is known before training, but "
                "strategy.type LEMONADE needs a metric that training measures: move it to "
                "objective.also"
            )
        named = {measure.metric for measure in self.objective.also}
        if named.isdisjoint(RESOURCE_METRICS):
            raise ValueError(
                "strategy.type LEMONADE trades accuracy against a metric that is known before "
                f"training: objective.also must name one of {', '.join(RESOURCE_METRICS)}"
            )
        return self

    @model_validator(mode="after")
    def _has_a_supernet(self) -> Self:
        check_supernet(self)
        return self

    @model_validator(mode="after")
    def _fits_the_space(self) -> Self:
        strategy, found = self.strategy, self.space.type
        space = ONLY_FOR.get(strategy.type, found)
        if found not in (space, "Custom"):
            raise ValueError(_ONLY_FOR.format(strategy=strategy.type, space=space, found=found))
        policy = strategy.eas or strategy.path_level
        if policy is None:
            return self
        field = "eas" if strategy.eas else "pathLevel"
        metric, goal = self.objective.metric, self.objective.goal
        if policy.reward == "tan" and (goal == "minimize" or metric in _NO_SHARES):
            raise ValueError(
                f"strategy.{field}.reward tan requires an accuracy that is maximized; for {metric} "
                "use reward: identity"
            )
        return self

    @model_validator(mode="after")
    def _budget_pays_for_one_trial(self) -> Self:
        if (why := self.unpaid()) is not None:
            raise ValueError(why)
        return self

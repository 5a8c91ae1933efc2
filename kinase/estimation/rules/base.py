"""What a rule is that stops a trial by its learning curve."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kinase import registry
from kinase.api.fidelity import Fidelity
from kinase.api.stopping import Stopping as StoppingModel
from kinase.history import History, Trial
from kinase.predict import require
from kinase.predict.curve import Curve, Prediction
from kinase.predict.features import Features, known
from kinase.space import Rng, derive_rng
from kinase.words import counted

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule finds about a trial."""

    stop: bool
    """Whether to stop it."""
    why: str
    """For a person, in a few words; without losses, which may be turned metrics."""
    predicted: float | None = None
    """The main loss that is expected of it at the end of its grant."""
    probability: float | None = None
    """That it does not reach what it has to reach; None for a rule that knows no probabilities."""


@dataclass(frozen=True, slots=True)
class RuleSetting:
    """What a rule works in."""

    probability: float = 0.05
    """A trial is stopped if it is good enough with a probability below this."""
    seed: int = 0
    """Of the rule's own choices."""


class Rule(ABC):
    """Judges a trial that rests within its grant.

    A rule is replayable: a verdict is a function of the options, the setting, the trial and the
    history. What it keeps between two verdicts only saves time.
    """

    slow: bool = False
    """Whether a verdict can take seconds."""
    needs: tuple[str, ...] = ()
    """Modules that must be installed."""

    def __init__(self, options: Any, setting: RuleSetting) -> None:
        """`options` is the rule's struct of the manifest.

        Raises:
            UnusableMember: a module that it needs is not installed.
        """
        require(type(self).__name__, *self.needs)
        self.options = options
        self.setting = setting

    @abstractmethod
    def verdict(self, trial: Trial, history: History, bar: float) -> Verdict | None:
        """Whether the trial is stopped; None if nothing can be said of it yet.

        Args:
            trial: rests before the end of its grant, and its curve has a finite value.
            history: of its arm.
            bar: the main loss that it has to reach at the end of its grant; finite.
        """

    def rng(self, *labels: int) -> Rng:
        """A separate random generator for a verdict."""
        return derive_rng(self.setting.seed, 3, *labels)

    def judged(self, prediction: Prediction, trial: Trial, bar: float) -> Verdict:
        """Stop where the trial reaches the bar with less than the probability of the setting
        (Domhan et al. 2015, section 4; Baker et al. 2017, section 3.3)."""
        reach = prediction.below(bar)
        after = counted(trial.grant.until, "epoch")
        # without values: here they are losses; the loop adds those of the metric
        why = f"good enough after {after} with probability {reach:.2g}"
        return Verdict(reach < self.setting.probability, why, prediction.mean, 1.0 - reach)


def alike(trial: Trial, history: History) -> list[Trial]:
    """The other trials whose curves can be compared with a trial's: of the same fidelity, and from
    the same kind of start. By number."""
    return [
        other
        for other in history.asked
        if other is not trial
        and other.curve
        and other.inherits == trial.inherits
        and _same(other.grant.fidelity, trial.grant.fidelity)
    ]


def _same(first: Fidelity, second: Fidelity) -> bool:
    return first is second or first == second


def begun(trial: Trial, epochs: int) -> bool:
    """Whether a trial has a finite value in its first epochs."""
    return any(math.isfinite(loss) for loss in trial.curve[:epochs])


def reached(curve: tuple[float, ...], epoch: int) -> bool:
    """Whether a curve has a finite value after an epoch."""
    return len(curve) >= epoch and math.isfinite(curve[epoch - 1])


def finished(trial: Trial, history: History) -> list[Trial]:
    """Those of `alike` that have a value at the epoch at which the trial's grant ends, and one in
    the epochs that the trial has done."""
    done, until = trial.done, trial.grant.until
    return [o for o in alike(trial, history) if reached(o.curve, until) and begun(o, done)]


_MOST = 300
"""Trials that a model is fitted to: the latest."""


def sample(trials: Sequence[Trial]) -> Sequence[Trial]:
    """The trials to fit a model to: the latest 300, without the last tenth or less, so that not
    every result costs a fit."""
    count = len(trials)
    return trials[: count - count % max(1, count // 10)][-_MOST:]


class Fitted(Generic[M]):
    """A rule's models by the epochs that are known and those that are predicted. A look fits one
    only if the trials to learn from have changed since the last look after as many epochs."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], tuple[object, Features, M]] = {}

    def get(
        self, trial: Trial, others: Sequence[Trial], fit: Callable[[Sequence[Curve]], M]
    ) -> tuple[Features, M]:
        """The features of the others, and the model of their curves.

        Args:
            trial: to be judged.
            others: to learn from.
            fit: makes the model.
        """
        length = trial.done, trial.grant.until
        key = tuple((other.number, len(other.curve)) for other in others)
        if length not in self._kept or self._kept[length][0] != key:
            known = features(others)
            self._kept[length] = key, known, fit(as_curves(others, known))
        return self._kept[length][1:]


def features(trials: Sequence[Trial]) -> Features:
    """The features of trials to fit a model to."""
    return Features([known(trial.metrics, trial.learning_rate) for trial in trials])


def as_curves(trials: Sequence[Trial], features: Features) -> list[Curve]:
    """Trials' curves for a model."""
    rows = features.of([known(trial.metrics, trial.learning_rate) for trial in trials])
    return [Curve(t.curve, tuple(row)) for t, row in zip(trials, rows.tolist(), strict=True)]


def make_rule(model: StoppingModel, seed: int) -> Rule:
    """The rule that a manifest describes.

    Raises:
        UnknownMember: an entry point that no package registers.
    """
    setting = RuleSetting(model.probability, seed)
    made: Rule = registry.make(
        "kinase.stopping", model, Rule, lambda cls, options: cls(options, setting)
    )
    return made

"""Inheritance of weights under a ladder: children have separate rungs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from itertools import islice

from kinase.api.estimation import Inherit as InheritModel
from kinase.api.fidelity import Grant
from kinase.estimation._waiting import pays
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, Left, Promote, Sample, Stop
from kinase.estimation.morphism import child_grant, inheritance_rule
from kinase.history import History, Trial

CHILDREN = -1
"""The bracket of the children."""


class Inherit(Estimator):
    """Around an estimator with a ladder: a child begins with its parent's trained weights, and
    trains a little before it is compared.

    Its first epochs say nothing next to those of a network from scratch, so children are in a
    separate bracket, which the estimator within does not see. A child that has done its first
    epochs is compared with its siblings, the children of the same parent; while these are fewer
    than `eta`, also with the latest other children. The best 1/eta of them train on; and the best,
    as soon as it is as good as its parent. Only the latest `eta**2` children are considered; an
    older one that still rests is stopped, and so the number of their checkpoints is limited. A
    child that is stopped can still be a parent.

    The rungs of children are the two highest ones: a child that is trained to its end ranks with
    the networks that are trained in full.
    """

    options: InheritModel

    def __init__(self, options: InheritModel, setting: Setting, inner: Estimator) -> None:
        """`options` is the manifest's `estimation.inherit`."""
        super().__init__(options, setting)
        self.inner = inner
        self.inheritance = inheritance_rule(options)
        self.slow = inner.slow

    @property
    def ladder(self) -> tuple[Grant, ...]:
        """That of the estimator within."""
        return self.inner.ladder

    @cached_property
    def children(self) -> tuple[Grant, ...]:
        """The ladder of a child, without the epochs of its distillation."""
        top = len(self.ladder) - 1
        whole = child_grant(self.options, self.setting.full)
        whole = whole.model_copy(update={"rung": top, "bracket": CHILDREN})
        first = self.options.first(whole.until)
        if first >= whole.until:
            return (whole,)
        return whole.model_copy(update={"until": first, "rung": top - 1, "final": False}), whole

    @property
    def child(self) -> Grant:
        """The first rung of a child."""
        return self.children[0]

    @property
    def needs(self) -> frozenset[str]:
        """As the estimator within."""
        return self.inner.needs

    def bar(self, trial: Trial, history: History) -> float:
        """For a child the best loss of children at its rung; else that of the estimator within."""
        if trial.grant.bracket != CHILDREN:
            return self.inner.bar(trial, history)
        rung = trial.grant.rung
        there = history.at(rung, CHILDREN)
        return there[0].rungs[rung][0] if there else float("inf")

    def rank(self, trial: Trial) -> tuple[float, ...]:
        """As the estimator within."""
        return self.inner.rank(trial)

    def next(self, history: History, left: Left) -> Decision:
        """Decide about the children that rest; else as the estimator within."""
        decision = self._of_children(history, left) or self.inner.next(history, left)
        if isinstance(decision, Sample):
            return replace(decision, child=self.child)
        return decision

    def _of_children(self, history: History, left: Left) -> Promote | Stop | None:
        """Promote the child that is the best among those that may train on, or stop one that is no
        longer considered."""
        rung = self.child.rung
        resting = [t for t in history.resting() if _is_child(t) and t.rests_at(rung)]
        if not resting:
            return None
        latest = self._latest(history)
        considered = {trial.number for trial in latest}
        families = defaultdict[tuple[int, ...], list[Trial]](list)
        for trial in history.at(rung, CHILDREN):
            families[trial.parents[:1]].append(trial)
        able = [
            trial
            for trial in resting
            if trial.number in considered
            and self._goes_on(trial, families[trial.parents[:1]], latest, history)
        ]
        for trial in sorted(able, key=lambda t: (t.rungs[rung], t.number)):
            # with the epochs of its distillation
            fidelity = trial.grant.fidelity
            if pays(left, fidelity.epochs - trial.done):
                update = {"fidelity": fidelity, "until": fidelity.epochs}
                return Promote(trial.number, self.children[-1].model_copy(update=update))
        past = [trial for trial in resting if trial.number not in considered]
        if past:
            return Stop(past[0].number, "later children have taken its place")
        return None

    def _latest(self, history: History) -> list[Trial]:
        """The children that came to the end of their first rung last, the last one first."""
        there = (t for t in reversed(history.told) if _is_child(t) and self.child.rung in t.rungs)
        return list(islice(there, self.options.eta**2))

    def _goes_on(
        self, trial: Trial, siblings: list[Trial], latest: list[Trial], history: History
    ) -> bool:
        """Whether a child is among the best of those that it is compared with, itself included."""
        rung, eta = self.child.rung, self.options.eta
        if not trial.usable_at(rung):
            return False
        others = [other for other in latest if other.parents[:1] != trial.parents[:1]]
        peers = siblings + others[: max(0, eta - len(siblings))]
        own = (trial.rungs[rung], trial.number)
        place = sum((other.rungs[rung], other.number) < own for other in peers)
        if place < len(peers) // eta:
            return True
        parent = history.by_number.get(trial.parents[0]) if trial.parents else None
        known = parent.rungs.get(parent.rung) if parent is not None else None
        return place == 0 and known is not None and trial.rungs[rung][0] <= known[0]


def _is_child(trial: Trial) -> bool:
    return trial.grant.bracket == CHILDREN

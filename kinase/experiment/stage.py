"""The stages of an experiment, search and finals: each says what to begin when a slot is free."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

from kinase.api.fidelity import Grant
from kinase.api.trial import Kind
from kinase.estimation import Decision, End, Left, Promote, Sample, Stop, Train
from kinase.experiment import asking, budget, finals
from kinase.experiment.arm import Arm
from kinase.experiment.draws import Draws, SetAside, none_at_random
from kinase.experiment.entries import AnyEntry
from kinase.experiment.record import Record

NOTHING: Sequence[AnyEntry] = ()


def owes_control(searched: int, controls: int, share: float) -> bool:
    """Whether the next sample is the control's.

    Args:
        searched: samples so far, the control's included.
        controls: the control's.
        share: the control's share of them, spread evenly.
    """
    return math.floor((searched + 1) * share) > controls


class Stage(Protocol):
    """What the loop runs to its end before the next stage."""

    @property
    def over(self) -> bool:
        """Whether nothing is left to begin, so that the stage ends when nothing runs any more."""

    @property
    def thinking(self) -> bool:
        """Whether a decision is being made, so that no result may be taken in. `next` is then asked
        again even if no slot is free, because parallelism was lowered meanwhile: else neither would
        follow."""

    def next(self) -> Sequence[AnyEntry]:
        """Entries for a free slot; none if there is nothing to decide until a trial rests or
        ends."""


class Search:
    """The search and its control: whose turn it is, and what the budget allows."""

    def __init__(self, record: Record, search: Arm, control: Arm) -> None:
        """Join the two arms."""
        self._record = record
        self._search = search
        self._control = control
        self._draws = {arm.kind: Draws(record, arm) for arm in (search, control)}
        self._reason: str | None = None
        self._exhausted = False

    @property
    def over(self) -> bool:
        """Whether the search has ended."""
        return self._record.state.ended is not None

    @property
    def thinking(self) -> bool:
        """Whether a slow estimator is asked again, before anything else is decided."""
        return not self.over and (self._search.thinking or self._control.thinking)

    def next(self) -> Sequence[AnyEntry]:
        """A decision of the arm whose turn it is, else of the other; the end of the search where
        neither can do anything and nothing runs that may change that."""
        record = self._record
        if self.over:
            return NOTHING
        if record.reached():
            return asking.end(record, record.why_end() or "the target is reached")
        self._reason, self._exhausted = None, False
        for arm, samples in self._turns():
            if entries := self._of_arm(arm, samples):
                return entries
            if arm.thinking:
                return NOTHING
        if record.state.running:
            return NOTHING  # a result may yet open the way, as unspent epochs do
        return asking.end(record, self._reason or "nothing is left to try")

    def _turns(self) -> Iterator[tuple[Arm, bool]]:
        """The arms in the order of asking, and whether each may sample: the control's share of the
        samples is spread evenly."""
        state = self._record.state
        share = self._record.spec.control.share
        if owes_control(state.searched, state.counts[Kind.CONTROL], share):
            yield self._control, True
            yield self._search, True
        else:
            yield self._search, True
            yield self._control, self._control_goes_on

    @property
    def _control_goes_on(self) -> bool:
        """Whether the control has its share of the candidates that are scored, however few the
        strategy proposes."""
        state, most = self._record.state, self._trials
        if not self._exhausted or most is None:
            return False
        share = self._record.spec.control.share
        return state.counts[Kind.CONTROL] < math.floor(most * share)

    def _of_arm(self, arm: Arm, samples: bool) -> Sequence[AnyEntry]:
        """What follows from an arm's decision. An arm that cannot have its sample is asked again
        with no trials left: it may still have trials to train on."""
        left = Left(self._epochs_of(arm), self._trials_left)
        decision = arm.next(self._record.state.searched, left)
        if isinstance(decision, Sample):
            if not samples:
                return NOTHING
            if entries := self._sample(arm, decision):
                return entries
            decision = arm.next(self._record.state.searched, Left(self._epochs_of(arm), 0))
        return self._train_on(arm, decision)

    def _train_on(self, arm: Arm, decision: Decision | None) -> Sequence[AnyEntry]:
        record = self._record
        match decision:
            case Stop():
                return [asking.stop(record, decision)]
            case Train(grant=grant):
                refusal = record.refusal(grant.fidelity, grant.until, new=False)
                refusal = refusal or none_at_random(record)
                if not refusal:
                    return [asking.supernet(record, decision)]
                self._refuse(refusal)
            case Promote(trial=number, grant=grant):
                costs = asking.costs(record.state.trials[number], grant)
                refusal = record.refusal(grant.fidelity, costs, new=False)
                if refusal is None:
                    return [asking.promote(record, decision)]
                self._refuse(refusal)
            case End(why=why) if arm is self._search:
                self._refuse(record.why_end() or why)
        return NOTHING

    def _sample(self, arm: Arm, sample: Sample) -> Sequence[AnyEntry]:
        record = self._record
        least = min((sample.grant, sample.child or sample.grant), key=lambda g: g.until)
        if (refusal := record.refusal(least.fidelity, least.until)) is not None:
            self._refuse(refusal)
            return NOTHING
        draws = self._draws[arm.kind]
        proposal = draws.next()
        if proposal is None:
            if arm is self._search:
                self._refuse(draws.why_none)
                self._exhausted = arm.estimator.most is not None
            return NOTHING
        if isinstance(proposal, SetAside):
            return asking.ask(
                record,
                arm.kind,
                proposal.proposal,
                sample.grant,
                above=proposal.why,
                stands_for=proposal.stands_for,
            )
        inherit = asking.inherits(record, proposal) if arm is self._search else None
        grant = asking.grant_of(sample, inherit)
        # a child may be paid for where one trained from scratch may not
        if (refusal := record.refusal(grant.fidelity, grant.until)) is not None:
            self._refuse(refusal)
            return NOTHING
        weights = asking.slice_of(record, sample)
        return asking.ask(record, arm.kind, proposal, grant, inherit, sample.measure, weights)

    def _refuse(self, reason: str) -> None:
        """Why an arm does nothing: what the budget says first, as the search's first reason."""
        self._reason = self._reason or reason

    def _epochs_of(self, arm: Arm) -> int | None:
        """Epochs that an arm plans with. The control's are its share of what is left: else it would
        begin a bracket that the search leaves it nothing to finish with."""
        record = self._record
        left = budget.epochs_left(record.spec, record.state, record.final_fidelity)
        if left is None or arm is self._search:
            return left
        return int(left * record.spec.control.share)

    @property
    def _trials(self) -> int | None:
        """How many trials the search may have, by the budget and the estimator."""
        limits = (self._record.spec.budget.trials, self._search.estimator.most)
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def _trials_left(self) -> int | None:
        return None if self._trials is None else max(0, self._trials - self._record.state.searched)


class Finals:
    """Finalists and baselines, trained at full fidelity."""

    def __init__(self, record: Record) -> None:
        """Choose them."""
        self._record = record
        self._due = finals.due(record.spec, record.state, record.losses, record.space)

    @property
    def over(self) -> bool:
        """Whether all were asked."""
        return not self._due

    @property
    def thinking(self) -> bool:
        """Never: they were chosen at once."""
        return False

    def next(self) -> Sequence[AnyEntry]:
        """The next one."""
        if not self._due:
            return NOTHING
        kind, proposal = self._due.pop(0)
        fidelity = self._record.final_fidelity
        grant = Grant(fidelity=fidelity, until=fidelity.epochs)
        weights = finals.weights(self._record, kind, proposal)
        if weights is not None:
            proposal = finals.in_order(self._record.space, proposal)
        return asking.ask(self._record, kind, proposal, grant, weights=weights)

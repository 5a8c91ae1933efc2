"""Proposals within the limits of the objective: drawn again, or set aside, never without end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinase.api.trial import Architecture
from kinase.api.within import FIELD, Limit, above, excess, why_above
from kinase.space import InfeasibleError, derive_rng
from kinase.strategy import Proposal
from kinase.words import counted, was

if TYPE_CHECKING:
    from kinase.experiment.arm import Arm
    from kinase.experiment.record import Record

DRAWS = 1000
"""Proposals in a row above a limit that end a search."""
BATCH = 100
"""Draws for a trial before one of them is set aside, so that the strategy can move on."""
SAME = 10
"""Further generators with which a strategy proposes the same architecture before it counts as one
that does not draw it at random."""
KNOWN = 20_000
"""Architectures whose counts are remembered, so that each is counted once."""
Counts = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SetAside:
    """A proposal above a limit that the strategy must be told of before it proposes another one."""

    proposal: Proposal
    why: str
    stands_for: int = 1
    """Proposals above a limit that were drawn, with this one."""


class Draws:
    """What an arm's strategy proposes within the limits.

    A proposal above a limit is drawn again with other generators. If that gives the same
    architecture again and again, such as the next neighbour of a local search, or nothing within
    the limits, the one closest to them is set aside: it becomes a trial that is told infeasible at
    once. `DRAWS` proposals in a row above a limit are the end. All of this depends on the history
    and the seed alone, so a search that is killed continues with the same proposals.
    """

    def __init__(self, record: Record, arm: Arm) -> None:
        """Nothing is drawn yet."""
        self._record = record
        self._arm = arm
        self._known: dict[str, Counts] = {}
        self._vain: int | None = None
        """The version of the history with which the last draws were in vain."""
        self._least: Counts = {}
        """Counts of the network that was closest to the limits then."""
        self.why_none = ""
        """Why `next` returned None."""

    def next(self) -> Proposal | SetAside | None:
        """The proposal for the next trial; None if there is none.

        Raises:
            EngineError: the strategy or the space failed.
        """
        state, history = self._record.state, self._arm.history
        limits = self._record.spec.objective.limits or ()
        proposal = self._propose(state.searched + state.excluded)
        if proposal is None:
            self.why_none = self._exhausted()
            return None
        counts = self._counts(proposal.architecture) if limits else {}
        if not above(limits, counts):
            return proposal
        before = state.excluded_in_row[self._arm.kind]
        left = min(BATCH, DRAWS - before)
        if left > 0 and self._vain != history.version:
            closest, nearest = proposal, counts
            first, same = None, True
            for draw in range(1, left):
                again = self._propose(len(history.asked), draw)
                if again is None:
                    break
                counts = self._counts(again.architecture)
                if counts and not above(limits, counts):
                    return again
                first = first or again
                same = same and again.architecture == first.architecture
                if draw == SAME and same:
                    # what cannot be built says so as a trial
                    return SetAside(again, why_above(limits, counts)) if counts else again
                if counts and excess(limits, counts) < excess(limits, nearest):
                    closest, nearest = again, counts
            if before + left < DRAWS:
                return SetAside(closest, why_above(limits, nearest), left)
            self._least = nearest
            self._vain = history.version
        self.why_none = none_within(limits, DRAWS, [*self._aside(), self._least or counts])
        return None

    def _propose(self, number: int, draw: int = 0) -> Proposal | None:
        record = self._record
        return self._arm.propose(number, record.space, record.state.trials, draw)

    def _counts(self, architecture: Architecture) -> Counts:
        """Counts at full fidelity; none of a network that cannot be built."""
        # not the canonical hash: networks of one function can have parameters that others lack
        key = json.dumps(architecture, sort_keys=True)
        if key not in self._known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            try:
                self._known[key] = self._record.appraise(architecture)
            except InfeasibleError:
                self._known[key] = {}
        return self._known[key]

    def _aside(self) -> list[Counts]:
        """Counts of the arm's proposals that were set aside."""
        trials = self._record.state.trials.values()
        return [t.resources for t in trials if t.excluded and t.kind is self._arm.kind]

    def _exhausted(self) -> str:
        """Why the strategy proposes nothing more, and what was set aside of it."""
        said, limits = self._arm.strategy.why_none, self._record.spec.objective.limits or ()
        aside = self._aside()
        if not aside:
            return said
        number = counted(len(aside), "architecture")
        return f"{said}; {number} {was(len(aside))} above {FIELD}: {_least(limits, aside)}"


def none_at_random(record: Record) -> str:
    """Why a supernet would be trained in vain: none of `DRAWS` random networks is within the
    limits. Empty if one is."""
    limits, seen = record.spec.objective.limits or (), list[Counts]()
    for number in range(DRAWS if limits else 0):
        architecture = record.space.sample(derive_rng(record.spec.seed, number))
        with suppress(InfeasibleError):
            seen.append(record.appraise(architecture))
            if not above(limits, seen[-1]):
                return ""
    return none_within(limits, DRAWS, seen) if seen else ""


def none_within(limits: Sequence[Limit], tried: int, counts: Sequence[Counts]) -> str:
    """That no proposal is within the limits, and what to do.

    Args:
        limits: of the objective.
        tried: proposals.
        counts: of their networks.
    """
    return (
        f"none of {counted(tried, 'proposal')} is within {FIELD}: {_least(limits, counts)}; raise "
        "the limit, or choose a space with smaller networks"
    )


def _least(limits: Sequence[Limit], counts: Sequence[Counts]) -> str:
    """The least that was seen, for each limit that nothing is within."""
    found = {each: min(c.get(each.metric, math.inf) for c in counts) for each in limits}
    unmet = {each: least for each, least in found.items() if least > each.most}
    if unmet:
        return ", ".join(
            f"the least {each.metric} are {least:,.0f}, and the limit is {each.most:,}"
            for each, least in unmet.items()
        )
    return f"each has {' or '.join(f'more than {each.most:,} {each.metric}' for each in limits)}"

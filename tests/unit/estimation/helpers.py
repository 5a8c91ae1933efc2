"""Estimators of a manifest, and results that are put into a history by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kinase.api.estimation import Estimation
from kinase.api.fidelity import Grant
from kinase.api.trial import Outcome
from kinase.estimation import Decision, Estimator, Left, Promote, Sample, Stop, make_estimator
from kinase.estimation.testing import SETTING
from kinase.history import History, Trial

FREE = Left(None, None)


def estimator(
    kind: str, epochs: int = 27, inherit: dict[str, Any] | None = None, **options: Any
) -> Estimator:
    struct = kind.lower() if kind.isupper() else kind[0].lower() + kind[1:]
    model = Estimation.model_validate({"type": kind, struct: options, "inherit": inherit})
    full = SETTING.full.model_copy(update={"epochs": epochs})
    return make_estimator(model, replace(SETTING, full=full))


class Hand:
    """A history in which everything happens by hand."""

    def __init__(self, estimator: Estimator) -> None:
        self.estimator = estimator
        self.history = History()

    def decide(self, left: Left = FREE) -> Decision:
        return self.estimator.next(self.history, left)

    def sample(self, count: int = 1) -> list[int]:
        """Obey so many decisions, all of which must be to sample."""
        return [self.obey(self.decide()) for _ in range(count)]

    def child(self, parent: int) -> int:
        """Obey a decision, which must be to sample, by a child that inherits."""
        return self.obey(self.decide(), parent)

    def obey(self, decision: Decision, parent: int | None = None) -> int:
        match decision:
            case Sample(grant=grant, child=child):
                number = len(self.history.asked)
                key, parents = f"{number:016x}", () if parent is None else (parent,)
                if parent is not None and child is not None:
                    grant = child
                inherits = parent is not None
                self.history.ask(Trial(number, {}, key, parents, grant=grant, inherits=inherits))
                return number
            case Promote(trial=number, grant=grant):
                restart = grant.fidelity != self.history.by_number[number].grant.fidelity
                self.history.grant(number, grant, restart=restart)
                return number
            case Stop(trial=number):
                self.end(number, Outcome.STOPPED, *self.history.by_number[number].losses)
                return number
        raise AssertionError(f"{decision} is not obeyed")

    def rest(self, number: int, loss: float, *curve: float) -> None:
        """It gets to the end of its grant, with this loss."""
        until = self.history.by_number[number].grant.until
        self.history.rest(number, until, (loss,), curve or (loss,) * until)

    def look(self, number: int, *curve: float) -> None:
        """It rests within its grant."""
        self.history.rest(number, len(curve), (curve[-1],), curve)

    def end(self, number: int, outcome: Outcome, *losses: float, curve: Any = ()) -> None:
        self.history.tell(number, outcome, losses or (float("inf"),), curve)

    def flow(self) -> list[Decision]:
        """All decisions up to the first that is to sample, wait or end; they are obeyed."""
        found: list[Decision] = []
        while isinstance(decision := self.decide(), Promote | Stop):
            self.obey(decision)
            found.append(decision)
        return found


def promoted(decisions: list[Decision]) -> list[int]:
    return [d.trial for d in decisions if isinstance(d, Promote)]


def stopped(decisions: list[Decision]) -> list[int]:
    return [d.trial for d in decisions if isinstance(d, Stop)]


def rungs(grants: tuple[Grant, ...]) -> list[int]:
    return [grant.until for grant in grants]

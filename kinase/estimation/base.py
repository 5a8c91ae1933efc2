"""The interface of a performance estimator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from kinase.api.fidelity import Fidelity, Grant
from kinase.api.supernet import Relaxation
from kinase.api.within import Limit
from kinase.estimation.decision import Decision, Left
from kinase.history import History, Trial
from kinase.morphism.widen import Growth
from kinase.space import Frame, Rng, Space, derive_rng


@dataclass(frozen=True, slots=True)
class InheritanceRule:
    """How a child inherits its parent's weights; None if it does not."""

    noise: float = 0.0
    """Noise on copied units, relative to the tensor's standard deviation."""
    rule: Growth = "replicate"
    """How new units are initialized."""
    matching: bool = True
    """Whether a child that no morphisms produce takes the tensors of the same name and shape and is
    trained like any child. Otherwise it is trained from scratch."""
    learning_rate_factor: float = 1.0
    """Factor on a child's learning rate."""
    optimizer: bool = False
    """Whether a child also inherits the optimizer's state."""
    approximate: bool = False
    """Whether approximate morphisms can produce a child."""
    distil: int = 0
    """Epochs in which a child learns from its parent where they do, before those of its grant."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an estimator works in."""

    full: Fidelity
    """The full fidelity of the search."""
    space: Space
    """Of the candidates."""
    frame: Frame
    """What surrounds a network at full fidelity."""
    seed: int = 0
    """Of the estimator's own choices."""
    relaxation: Relaxation | None = None
    """How the strategy makes the choices of a supernet, if it is that."""
    limits: tuple[Limit, ...] = ()
    """Limits that candidates are within."""


class Estimator(ABC):
    """Says what to do with a free slot: sample a candidate, train one on, or stop one. Finalists
    always get the full fidelity.

    An estimator is replayable: `next` is a function of the options, the setting and the history,
    and of nothing else. What it keeps between two calls only saves time, and is keyed by
    `history.version`. Decisions are only taken about trials that rest.

    `kinase.estimation.testing` holds the contract as a test suite.
    """

    inheritance: InheritanceRule | None = None
    """How weights pass from a parent to its child; None where they do not."""
    slow: bool = False
    """Whether `next` can take seconds. It then runs in a thread, and the history does not change
    meanwhile."""

    def __init__(self, options: Any, setting: Setting) -> None:
        """`options` is the estimator's struct of the manifest."""
        self.options = options
        self.setting = setting

    @property
    @abstractmethod
    def ladder(self) -> tuple[Grant, ...]:
        """The grants that a candidate may get, the first of them first; the last one is final."""

    @property
    def child(self) -> Grant | None:
        """The first grant of a child that begins with its parent's weights; None: as any other's.
        Its network and its data must be those of any other."""
        return None

    @property
    def most(self) -> int | None:
        """How many candidates are scored at most, the control's included; None: as many as the
        budget pays for."""
        return None

    @property
    def needs(self) -> frozenset[str]:
        """Optional parts of the trial contract that the trainer must know (`TaskInfo.supports`)."""
        paused = any(g.until < g.fidelity.epochs or g.every for g in self.ladder)
        return frozenset({"until"} if paused else ())

    @abstractmethod
    def next(self, history: History, left: Left) -> Decision:
        """What to do with a free slot. It is called again until a slot is taken, or it says Wait
        or End; Stop takes no slot.

        Args:
            history: of this arm.
            left: what the budget has left. What cannot be paid for ends the search once nothing
                runs.
        """

    def bar(self, trial: Trial, history: History) -> float:
        """The main loss that a trial must be expected to reach at the end of its grant to continue:
        by default the best one at that rung, infinity where there is none. Trials that began with a
        parent's weights and trials from scratch are not compared."""
        rung = trial.grant.rung
        there = (other for other in history.at(rung) if other.inherits == trial.inherits)
        best = next(there, None)
        return float("inf") if best is None else best.rungs[rung][0]

    def rank(self, trial: Trial) -> tuple[float, ...]:
        """Sort key for finalists: a high rung before a good value at a low one. A trial whose main
        value is not finite is last."""
        return (not trial.usable, -trial.rung, *trial.losses)

    def rng(self, *labels: int) -> Rng:
        """A separate random generator for a decision."""
        return derive_rng(self.setting.seed, 2, *labels)

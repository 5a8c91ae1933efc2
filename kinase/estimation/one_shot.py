"""One-shot estimation: candidates share the weights of one supernet."""

from __future__ import annotations

from dataclasses import replace

from kinase.api.estimation import OneShotEstimation
from kinase.api.fidelity import Grant
from kinase.api.supernet import CANDIDATES, Relaxation, SupernetPlan
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, End, Left, Sample, Train, Wait
from kinase.history import History
from kinase.space import InfeasibleError


class OneShot(Estimator):
    """One supernet is trained first; then each candidate is scored with its part of the weights,
    and costs no epochs (Bender et al. 2018; Pham et al. 2018; Guo et al. 2020; Li & Talwalkar
    2020). The search and its control score with the same supernet."""

    options: OneShotEstimation

    def __init__(self, options: OneShotEstimation, setting: Setting) -> None:
        """`options` is the manifest's `estimation.oneShot`.

        Raises:
            ValueError: the space has no supernet.
        """
        super().__init__(options, setting)
        frame = replace(setting.frame, searching=True)
        try:
            found = setting.space.supernet(frame)
        except InfeasibleError:
            return  # which every candidate says, too
        if found is None:
            raise ValueError(
                "the search space has no supernet, a network that holds those of all "
                "architectures: use another estimation, or one of the spaces with a supernet "
                "(docs/search-spaces.md)"
            )

    @property
    def ladder(self) -> tuple[Grant, ...]:
        """One rung, without training."""
        return (Grant(fidelity=self.setting.full, until=0),)

    @property
    def needs(self) -> frozenset[str]:
        """A supernet's trial, and trials that end before their first epoch."""
        return frozenset({"until", "supernet"})

    @property
    def most(self) -> int:
        """By the manifest."""
        return self.options.candidates or CANDIDATES

    @property
    def training(self) -> Train:
        """The supernet's."""
        epochs = self.options.epochs or self.setting.full.epochs
        relaxation = self.setting.relaxation or self.options.relaxation or Relaxation()
        fidelity = self.setting.full.model_copy(update={"epochs": epochs})
        plan = SupernetPlan(relaxation=relaxation, held=self.options.held)
        return Train(Grant(fidelity=fidelity, until=epochs), plan)

    def next(self, history: History, left: Left) -> Decision:
        """Train the supernet, wait for it, and then score candidates."""
        supernet = history.supernet
        if supernet is None:
            return self.training
        if supernet.outcome is None:
            return Wait()
        if not supernet.stored:
            said = supernet.message or supernet.outcome.value
            return End(f"the supernet, trial {supernet.number}, left no weights: {said:.500}")
        if left.trials == 0:
            return End(f"{self.most} candidates are scored")
        return Sample(
            self.ladder[0], supernet=supernet.number, recalibrate=self.options.recalibrate
        )

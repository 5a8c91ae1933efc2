"""One-shot estimation: candidates share the weights of one supernet."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from kinase.api.estimation import OneShotEstimation
from kinase.api.fidelity import Grant
from kinase.api.supernet import CANDIDATES, TRAINED, Relaxation, SupernetPlan
from kinase.api.supernet_options import SupernetOptions
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, End, Left, Sample, Train, Wait
from kinase.history import History
from kinase.space import InfeasibleError
from kinase.space.sharing import Unshared, shared
from kinase.space.supernet import Supernet


class OneShot(Estimator):
    """One supernet is trained first; then each candidate is scored with its part of the weights,
    and costs no epochs (Bender et al. 2018; Pham et al. 2018; Guo et al. 2020; Li & Talwalkar
    2020). The search and its control score with the same supernet.

    Where the supernet's options see a part of the channels only, as in PC-DARTS, no candidate has
    weights there: what the choices lead to is trained, as is the control."""

    options: OneShotEstimation

    def __init__(self, options: OneShotEstimation, setting: Setting) -> None:
        """`options` is the manifest's `estimation.oneShot`.

        Raises:
            Unshared: the space has no supernet, or none that the relaxation can use.
            ValueError: an option cannot be used with the relaxation.
        """
        super().__init__(options, setting)
        train = self.training
        if why := train.plan.unfit(train.grant.until):
            raise ValueError(why)
        if self.relaxation.type == "OFA" and setting.space.largest is None:
            raise Unshared(
                "the sampling OFA shrinks a largest network, which contains all others; the "
                f"space {type(setting.space).__name__} has none: use Uniform, or the space "
                "MobileNet"
            )
        with suppress(InfeasibleError):  # which every candidate says, too
            frame = replace(setting.frame, partial=self.relaxation.partial)
            found = shared(setting.space, frame, self.relaxation.form)
            if options.selection is not None and not isinstance(found, Supernet):
                raise Unshared(
                    "selection must not be set: it decides choice by choice, and the networks of "
                    f"the space {type(setting.space).__name__} share slices of tensors instead"
                )
            if self.relaxation.type == "FairNAS" and isinstance(found, Supernet) and found.inputs:
                raise Unshared(
                    "the sampling FairNAS trains every option of a choice in each step, but nodes "
                    f"of the space {type(setting.space).__name__} take only some of their inputs: "
                    "use Uniform"
                )

    @property
    def ladder(self) -> tuple[Grant, ...]:
        """One rung, without training where candidates have weights of the supernet."""
        full = self.setting.full
        return (Grant(fidelity=full, until=full.epochs if self.relaxation.partial else 0),)

    @property
    def needs(self) -> frozenset[str]:
        """A supernet's trial, and trials that end before their first epoch."""
        return frozenset({"until", "supernet"})

    @property
    def relaxation(self) -> Relaxation:
        """How the supernet's choices are made."""
        if self.setting.relaxation is not None:
            return self.setting.relaxation
        drawn = self.options.sampling
        return Relaxation() if drawn is None else Relaxation.model_validate(drawn.model_dump())

    @property
    def most(self) -> int:
        """By the manifest; few where each is trained."""
        return self.options.candidates or (TRAINED if self.relaxation.partial else CANDIDATES)

    @property
    def training(self) -> Train:
        """The supernet's."""
        epochs = self.options.epochs or self.setting.full.epochs
        fidelity = self.setting.full.model_copy(update={"epochs": epochs})
        options = {name: getattr(self.options, name) for name in SupernetOptions.model_fields}
        plan = SupernetPlan(relaxation=self.relaxation, limits=self.setting.limits, **options)
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
        if self.relaxation.partial:
            return Sample(self.ladder[0])
        return Sample(
            self.ladder[0], supernet=supernet.number, recalibrate=self.options.recalibrate
        )

"""`estimation.type: Auto`: the estimation of a search whose manifest names none."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from kinase.api.estimation import Estimation
from kinase.api.supernet import LEARNED

if TYPE_CHECKING:
    from kinase.api.spec import ExperimentSpec

INHERITING = ("NASH", "LEMONADE", "EAS", "PathLevel", "LargeScaleEvolution")
"""Strategies intended for children that inherit weights."""
CLIMBING = "NASH"
"""The one of them that was measured with children on a ladder: about as good on the validation
part as without, a little better on the test part, and the initial networks cost less."""
LEAST_EPOCHS = 9
"""Training epochs from which there are three rungs (1, 3 and 9 epochs). With fewer, a rung says
little of the next one, or costs nearly as much."""
WRAPS = ("stopping", "screen")
"""Fields next to the type that stay as they are, whatever the type `Auto` means."""
OWN_TRAINER = ("until", "measure", "supernet", "also", "workers")
"""What Kinase's own trainer supports."""


def chosen(spec: ExperimentSpec, supports: Collection[str] = OWN_TRAINER) -> Estimation:
    """The estimation that `Auto` means for a search; any other type as it is.

    Measured at equal cost (bench/README.md): rungs against full training on the digits and on
    NAS-Bench-201 (sections 36 and 35), children that inherit on the digits and on Fashion-MNIST
    (sections 19 and 36). The other strategies whose children inherit get what their papers combine
    them with. A ladder compares trials in the main objective, which would leave out the
    small networks of a front. A rule that stops trials by their learning curves saves nearly
    nothing on a ladder. Of a trainer by `trialTemplate.command` nobody knows whether it keeps what
    it needs to continue, so its trials are trained in full.

    Args:
        spec: of the search.
        supports: what the trainer supports, `TaskInfo.supports`.
    """
    given = spec.estimation
    if given.type != "Auto":
        return given
    ladder = (
        "until" in supports
        and spec.training.epochs >= LEAST_EPOCHS
        and not spec.objective.also
        and given.stopping is None
    )
    if spec.strategy.type in LEARNED:
        kind = "OneShot"  # nothing else trains a supernet
    elif spec.trial_template.command:
        kind = "Full"
    elif spec.strategy.type in INHERITING:
        kind = "ASHA" if ladder and spec.strategy.type == CLIMBING else "Morphism"
    else:
        kind = "ASHA" if ladder else "Full"
    wraps = {name: getattr(given, name) for name in WRAPS if kind != "OneShot"}
    inherits = kind == "ASHA" and spec.strategy.type in INHERITING
    return Estimation.model_validate({"type": kind, "inherit": {} if inherits else None} | wraps)


def choice(estimation: Estimation) -> str:
    """What was chosen, as a line for people."""
    inherits = " with inherit" if estimation.inherit is not None else ""
    return f"estimation: {estimation.shown}{inherits}, chosen by the type Auto"


def climbs() -> str:
    """CEL: whether `chosen` gives a ladder, with Kinase's own trainer."""
    return (
        "self.estimation.type == 'Auto' && "
        "(!has(self.trialTemplate) || !has(self.trialTemplate.command) || "
        "size(self.trialTemplate.command) == 0) && "
        f"self.training.epochs >= {LEAST_EPOCHS} && "
        f"!(self.strategy.type in {[*(e for e in INHERITING if e != CLIMBING), *LEARNED]}) && "
        "!has(self.estimation.stopping) && "
        "(!has(self.objective.also) || size(self.objective.also) == 0)"
    )

"""Rungs of rising fidelity, as schedulers climb them, and their checks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kinase.api._base import Model, Rule

if TYPE_CHECKING:
    from kinase.api.spec import ExperimentSpec

Level = Annotated[float, Field(gt=0, le=100_000)]
LADDERS = {
    "SuccessiveHalving": "successiveHalving",
    "Hyperband": "hyperband",
    "ASHA": "asha",
    "AsyncHyperband": "asyncHyperband",
}
"""Types of an estimation that have a ladder, and their structs."""
WHOLE = ("epochs", "resolution", "cells")
"""Axes that are counted; the others are shares of the full fidelity."""
FULL = "the full fidelity"


class Ladder(Model):
    """Rungs of rising fidelity. The last one is the full fidelity."""

    axis: Literal["epochs", "data", "resolution", "filters", "cells"] = "epochs"
    """What rises from rung to rung, all else being as at full fidelity. `epochs`: training epochs.
    `data`: share of the training split. `resolution`: input height and width in pixels. `filters`:
    factor applied to every channel count. `cells`: number of cells (space type Cell only). With
    `epochs` a trial continues from its checkpoint; otherwise each rung trains from scratch."""
    least: Level | None = None
    """Lower bound of the axis. The rungs are the full fidelity divided by `eta` once, twice, and so
    on, rounded down, as long as the result is not below `least`. Default: 1 for `epochs`; the other
    axes require `least` or `rungs`."""
    rungs: Annotated[tuple[Level, ...], Field(min_length=1, max_length=20)] | None = None
    """Values of the axis at the rungs below the full fidelity, ascending, instead of those that
    `least` and `eta` give."""
    eta: Annotated[int, Field(ge=2, le=100)] = 3
    """One in `eta` candidates of a rung gets to the next one."""
    horizon: Literal["full", "rung"] = "full"
    """Epochs over which the learning rate schedule of a rung runs (axis `epochs` only). `full`:
    those of the full fidelity, so a promoted trial continues as if it had never paused. `rung`:
    the rung's own, so the schedule ends with the rung, and each rung trains from scratch."""

    rules: ClassVar = (
        Rule(
            "self.axis == 'epochs' || has(self.least) || has(self.rungs)",
            "axis {self.axis} requires least or rungs",
            ".least",
            "Required",
        ),
        Rule(
            "!has(self.least) || !has(self.rungs)",
            "rungs are listed, so least must not be set; remove one of them",
            ".least",
            "Forbidden",
        ),
        Rule(
            f"!(self.axis in {list(WHOLE)}) || "
            "(self.?least.orValue(1.0) >= 1.0 && "
            "self.?least.orValue(1.0) == double(int(self.?least.orValue(1.0))))",
            "least {self.?least.orValue(1.0)} is invalid for the axis {self.axis}; "
            "it must be a whole number",
            ".least",
        ),
        Rule(
            f"!(self.axis in {list(WHOLE)}) || "
            "!has(self.rungs) || self.rungs.all(r, r >= 1.0 && r == double(int(r)))",
            "rungs of the axis {self.axis} must be whole numbers",
            ".rungs",
        ),
        Rule(
            f"self.axis in {list(WHOLE)} || self.?least.orValue(0.0) * double(self.eta) <= 1.0",
            "least {self.?least.orValue(0.0)} is above the full fidelity / eta = 1 / {self.eta}, "
            "so there would be one rung; lower least or eta",
            ".least",
        ),
        Rule(
            f"self.axis in {list(WHOLE)} || !has(self.rungs) || self.rungs.all(r, r < 1.0)",
            "rungs of the axis {self.axis} must be below 1, the full fidelity",
            ".rungs",
        ),
        Rule(
            "!has(self.rungs) || (self.rungs.isSorted() && "
            "self.rungs.all(r, self.rungs.exists_one(other, other == r)))",
            "rungs must be ascending, each given once",
            ".rungs",
        ),
        Rule(
            "self.axis == 'epochs' || self.horizon == 'full'",
            "horizon {self.horizon} is for the axis epochs; with the axis {self.axis} each rung "
            "trains for all epochs: remove it",
            ".horizon",
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.axis != "epochs" and self.least is None and self.rungs is None:
            raise ValueError(f"axis {self.axis} requires least or rungs")
        if self.least is not None and self.rungs is not None:
            raise ValueError("rungs are listed, so least must not be set; remove one of them")
        if self.horizon != "full" and self.axis != "epochs":
            raise ValueError(
                f"horizon {self.horizon} is for the axis epochs; with the axis {self.axis} each "
                "rung trains for all epochs: remove it"
            )
        if self.axis in WHOLE:
            if self.least is not None and (self.least < 1 or self.least != int(self.least)):
                raise ValueError(
                    f"least {self.least:g} is invalid for the axis {self.axis}; it must be a whole "
                    "number"
                )
            if any(rung < 1 or rung != int(rung) for rung in self.rungs or ()):
                raise ValueError(f"rungs of the axis {self.axis} must be whole numbers")
        else:
            if (self.least or 0.0) * self.eta > 1:
                raise ValueError(one_rung("least", self.least or 0, FULL, 1, self.eta))
            if any(rung >= 1 for rung in self.rungs or ()):
                raise ValueError(
                    f"rungs of the axis {self.axis} must be below 1, the full fidelity"
                )
        if any(low >= high for low, high in pairwise(self.rungs or ())):
            raise ValueError("rungs must be ascending, each given once")
        return self

    def values(self, full: int = 1) -> tuple[float, ...]:
        """The axis at each rung, ascending: whole numbers, or shares of the full fidelity.

        Args:
            full: the axis at full fidelity, where it is counted.

        Raises:
            ValueError: there would be one rung, or one above the full fidelity.
        """
        top = full if self.axis in WHOLE else 1
        if self.rungs is not None:
            if self.rungs[-1] >= top:
                raise ValueError(
                    f"rungs end with {self.rungs[-1]:g}; they must be below the full fidelity's "
                    f"{top}, which follows them"
                )
            return (*(int(r) if self.axis in WHOLE else r for r in self.rungs), top)
        found: list[float] = [top]
        power = self.eta
        while (value := self._divided(top, power)) >= (self.least or 1) * (1 - 1e-9):
            found.insert(0, value)
            power *= self.eta
        if len(found) == 1:
            raise ValueError(one_rung("least", self.least or 1, FULL, top, self.eta))
        return tuple(found)

    def _divided(self, top: int, power: int) -> float:
        return top // power if self.axis in WHOLE else top / power

    @property
    def cheapest(self) -> int | None:
        """Least epochs of a trial; None for those of the full fidelity."""
        if self.axis != "epochs":
            return None
        return int(self.rungs[0] if self.rungs is not None else self.least or 1)

    def mean_epochs(self, full: int) -> int:
        """Epochs of a trial on average, rounded up, where one in `eta` gets to the next rung."""
        if self.axis != "epochs":  # as of ever more rungs: how many there are may not be known yet
            return -(-full * self.eta // (self.eta - 1))
        values = [int(value) for value in self.values(full)]
        spent = values if self.horizon == "rung" else [b - a for a, b in pairwise((0, *values))]
        share = Fraction(1, self.eta)
        return math.ceil(sum(epochs * share**k for k, epochs in enumerate(spent)))


def one_rung(field: str, least: float, of: str, full: int, eta: int) -> str:
    """What is wrong with a ladder of one rung, and what would be right."""
    more = "" if of == FULL else f", or raise {of}"
    return (
        f"{field} {least:g} is above {of} / eta = {full} / {eta}, so there would be one rung; "
        f"lower least or eta{more}"
    )


def ladder_of(spec: ExperimentSpec) -> tuple[str, Ladder] | None:
    """The struct of the estimation that has a ladder, and its name in the manifest."""
    name = LADDERS.get(spec.estimation.type)
    return None if name is None else (name, spec.estimation.member)


def check_ladder(spec: ExperimentSpec) -> None:
    """Check a ladder against the full fidelity and the space.

    Raises:
        ValueError: it does not fit; the message names field, value, and what would be right.
    """
    if (found := ladder_of(spec)) is None:
        return
    name, ladder = found
    place = f"estimation.{name}"
    if ladder.axis == "cells" and spec.space.cell is None:
        raise ValueError(
            f"{place}.axis cells requires the space type Cell; space.type is {spec.space.type}"
        )
    if ladder.axis == "filters" and spec.space.model is not None:
        raise ValueError(
            f"{place}.axis filters is not supported by the space type Model: an existing network "
            "cannot be built narrower"
        )
    for axis, full, field in (
        ("epochs", spec.training.epochs, "training.epochs"),
        ("resolution", spec.task.resolution, "task.resolution"),
    ):
        if ladder.axis != axis or full is None:
            continue
        if ladder.rungs is not None and ladder.rungs[-1] >= full:
            raise ValueError(
                f"{place}.rungs end with {ladder.rungs[-1]:g}; they must be below {field} {full}, "
                "which follows them"
            )
        least = ladder.least or 1
        if ladder.rungs is None and full // ladder.eta < least:
            raise ValueError(one_rung(f"{place}.least", least, field, full, ladder.eta))


def first_epochs(otherwise: str) -> str:
    """CEL: the epochs of `Ladder.cheapest`, or what else a trial takes."""
    found = otherwise
    for kind, name in LADDERS.items():
        at = f"self.estimation.?{name}"
        found = (
            f"(self.estimation.type == '{kind}' && {at}.?axis.orValue('epochs') == 'epochs' ? "
            f"int({at}.?rungs[?0].orValue({at}.?least.orValue(1.0))) : {found})"
        )
    return found


def ladder_rules() -> Iterator[Rule]:
    """What `check_ladder` checks, for the API server."""
    for kind, name in LADDERS.items():
        at, place = f"self.estimation.?{name}", f"estimation.{name}"
        axis = f"{at}.?axis.orValue('epochs')"
        mine = f"self.estimation.type != '{kind}' || {axis} != "
        eta = f"{at}.?eta.orValue(3)"
        yield Rule(
            f"{mine}'cells' || self.space.type == 'Cell'",
            f"{place}.axis cells requires the space type Cell; space.type is {{self.space.type}}",
            f".{place}.axis",
            "Forbidden",
        )
        yield Rule(
            f"{mine}'filters' || self.space.type != 'Model'",
            f"{place}.axis filters is not supported by the space type Model: an existing network "
            "cannot be built narrower",
            f".{place}.axis",
            "Forbidden",
        )
        for of, field in (("epochs", "training.epochs"), ("resolution", "task.resolution")):
            full = f"self.{field}"
            known = f"{mine}'{of}' || " + ("" if of == "epochs" else f"!has({full}) || ")
            yield Rule(
                f"{known}!{at}.?rungs.hasValue() || "
                f"self.estimation.{name}.rungs.all(r, r < double({full}))",
                f"{place}.rungs must be below {field} {{{full}}}, which follows them",
                f".{place}.rungs",
            )
            least = f"{at}.?least.orValue(1.0)"
            yield Rule(
                f"{known}{at}.?rungs.hasValue() || double({full} / {eta}) >= {least}",
                f"{place}.least {{{least}}} is above {field} / eta = {{{full}}} / {{{eta}}}, so "
                f"there would be one rung; lower least or eta, or raise {field}",
                f".{place}.least",
            )

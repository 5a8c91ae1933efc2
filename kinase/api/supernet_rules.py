"""What a strategy that learns the choices of a supernet requires of the rest of a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kinase.api._base import Rule
from kinase.api.auto import WRAPS
from kinase.api.supernet import LEARNED

if TYPE_CHECKING:
    from kinase.api.spec import ExperimentSpec

_LEARNS = (
    "strategy.type {strategy} learns the choices of a supernet, and estimation.type {estimation} "
    "has none: use the type OneShot, or leave estimation out"
)
_CHOOSES = (
    "estimation.oneShot.sampling must not be set: strategy.type {strategy} says how choices are "
    "made; remove it, or choose a strategy that samples, such as Evolution"
)
_WRAPS = (
    "estimation.{name} must not be set: strategy.type {strategy} trains no candidates; remove it"
)
_UNSCORED = (
    "estimation.oneShot.check must not be set with PCDARTS, whose candidates are trained and not "
    "scored; remove it"
)

_NOTHING = (
    "estimation.oneShot.finalists must not be inherit with PCDARTS, whose candidates have no "
    "weights in the supernet; remove it"
)


def check_supernet(spec: ExperimentSpec) -> None:
    """Check a strategy against the estimation.

    Raises:
        ValueError: they do not fit; the message names the field and what would be right.
    """
    strategy, estimation = spec.strategy.type, spec.estimation
    if spec.rank_check and strategy == "PCDARTS":
        raise ValueError(_UNSCORED)
    inherits = estimation.one_shot is not None and estimation.one_shot.finalists == "inherit"
    if inherits and strategy == "PCDARTS":
        raise ValueError(_NOTHING)
    if strategy not in LEARNED:
        return
    if estimation.type not in ("Auto", "OneShot"):
        raise ValueError(_LEARNS.format(strategy=strategy, estimation=estimation.type))
    if estimation.one_shot is not None and estimation.one_shot.sampling is not None:
        raise ValueError(_CHOOSES.format(strategy=strategy))
    for name in WRAPS:
        if getattr(estimation, name) is not None:
            raise ValueError(_WRAPS.format(strategy=strategy, name=name))


def supernet_rules() -> Iterator[Rule]:
    """What `check_supernet` checks, for the API server."""
    samples = f"!(self.strategy.type in {list(LEARNED)})"
    strategy = "{self.strategy.type}"
    yield Rule(
        f"{samples} || self.estimation.type in ['Auto', 'OneShot']",
        _LEARNS.format(strategy=strategy, estimation="{self.estimation.type}"),
        ".estimation.type",
    )
    yield Rule(
        f"{samples} || !self.estimation.?oneShot.?sampling.hasValue()",
        _CHOOSES.format(strategy=strategy),
        ".estimation.oneShot.sampling",
        "Forbidden",
    )
    for name in WRAPS:
        yield Rule(
            f"{samples} || !has(self.estimation.{name})",
            _WRAPS.format(strategy=strategy, name=name),
            f".estimation.{name}",
            "Forbidden",
        )
    yield Rule(
        "self.estimation.?oneShot.?check.orValue(0) == 0 || self.strategy.type != 'PCDARTS'",
        _UNSCORED,
        ".estimation.oneShot.check",
        "Forbidden",
    )
    yield Rule(
        "self.estimation.?oneShot.?finalists.orValue('scratch') == 'scratch' || "
        "self.strategy.type != 'PCDARTS'",
        _NOTHING,
        ".estimation.oneShot.finalists",
    )

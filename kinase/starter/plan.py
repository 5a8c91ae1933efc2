"""Which search suits data and a time: pure rules, whose numbers are said where they stand.

A proposal is a place to begin, not an optimum. What a trial costs is a rough guess, by the
multiply-adds of networks drawn from the space. The budget is a time: it holds whatever the guess is
worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from kinase.api.look import Look
from kinase.api.objective import known_metrics
from kinase.api.space import Space as SpaceModel
from kinase.space import Frame, InfeasibleError, Space, make_space
from kinase.words import counted

METRICS = {"Classification": "val_accuracy", "MultiLabel": "val_map", "Regression": "val_rmse"}
"""What is optimised by default, by task."""
SIDES = (8, 16, 24, 32, 48, 64, 96, 128)
"""Heights and widths that are proposed for images of one's own."""
LARGEST = {"cpu": 64, "mps": 96, "cuda": 128}
"""Largest of them by device: the cost of a trial grows with the square."""
TOPS = (128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4)
"""Filters of the widest layer that are tried, from the most on."""
WIDEST = {"cpu": 64, "mps": 96, "cuda": 128}
"""Most filters of a layer that are proposed, by device."""
ENOUGH_WIDTH = 16
"""A space whose widest layer has fewer filters is made less deep first, ..."""
ENOUGH_DEPTH = 4
"""... down to so many layers."""
SPEED = {"cpu": 7e9, "mps": 1e11, "cuda": 1e12}
"""Multiply-adds a second of one slot in training, where a sample pass counts three times those of
its forward pass. The CPU's is that of the digits example (bench/README.md, section 1); the others
are cautious guesses."""
STEP = 2e-3
"""Seconds of a training step that no multiply-add explains."""
TRIAL = 0.15
"""Seconds of a trial in addition to its training."""
SEARCH_SHARE = 0.75
"""Of the time; the rest is kept for the finalists."""
WANTED = 40
"""Trials below which a cheaper estimation is proposed."""
FEW = 24
"""Trials below which random search is as good: evolution's start alone takes a third of them."""
MANY = 300
"""Trials from which candidates are trained longer instead."""
MOST_TRIALS = 500
"""`budget.trials`: more on the same validation part choose by chance."""
IMBALANCE = 10
"""Samples of the largest class to one of the smallest, from which accuracy says little."""
BALANCED = ("val_balanced_accuracy", "val_f1")
"""Metrics for such data, the first that the task has."""


class CannotPlan(ValueError):
    """Nothing can be proposed; says what would have to be different."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks for."""

    seconds: float = 1800.0
    """Time for search and finalists."""
    max_params: int | None = None
    """Most parameters of a network."""
    metric: str | None = None
    """What the search optimizes; None chooses."""
    resolution: int | None = None
    """Height and width of an image; None chooses."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A search that is proposed."""

    look: Look
    wishes: Wishes
    side: int | None
    """`task.resolution`; None leaves images as they are."""
    metric: str
    depth: int
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    largest: int
    """Parameters of the largest network of the space."""
    epochs: int
    """Of a full training."""
    low_epochs: int
    """Of a candidate's."""
    fraction: float
    """Share of the data for a candidate's training."""
    batch: int
    crop: int
    parallelism: int
    trials: int
    """How many the search may come to, roughly."""
    trial_seconds: float
    """What one may take, roughly."""
    population: int | None
    """Of evolution; None proposes random search."""
    search_seconds: int
    finalists: int


def plan(look: Look, wishes: Wishes) -> Plan:
    """Propose a search.

    Raises:
        CannotPlan: the metric is not known, or no network is small enough.
    """
    side = _side(look, wishes)
    shape = (look.channels, side or look.height, side or look.width)
    epochs = 60 if look.train <= 2000 else 40 if look.train <= 10_000 else 30
    depth, widths, kernels, largest = _space(look, shape, wishes.max_params)
    proposed = Plan(
        look=look,
        wishes=wishes,
        side=side,
        metric=_metric(look, wishes.metric),
        depth=depth,
        widths=widths,
        kernels=kernels,
        largest=largest,
        epochs=epochs,
        low_epochs=max(2, epochs // 4),
        fraction=1.0,
        batch=_batch(look),
        crop=max(1, min(shape[1:]) // 8),
        parallelism=look.slots,
        trials=0,
        trial_seconds=0.0,
        population=None,
        search_seconds=max(1, round(wishes.seconds * SEARCH_SHARE)),
        finalists=3,
    )
    return _paced(proposed, _pass_seconds(look, proposed, shape))


def _side(look: Look, wishes: Wishes) -> int | None:
    """`task.resolution`: the largest of `SIDES` that the images have and the device can train."""
    if wishes.resolution is not None:
        return wishes.resolution
    most = LARGEST[look.device]
    if look.fixed and look.dataset != "folder" and max(look.height, look.width) <= most:
        return None
    longer = min(most, max(look.height, look.width))
    return max((side for side in SIDES if side <= longer), default=SIDES[0])


def _metric(look: Look, wanted: str | None) -> str:
    known = known_metrics(look.task)
    if wanted is not None:
        if wanted not in known:
            raise CannotPlan(
                f"metric {wanted!r} is not one of task.type {look.task}; use one of "
                f"{', '.join(known)}"
            )
        return wanted
    if uneven(look):
        return next((name for name in BALANCED if name in known), METRICS[look.task])
    return METRICS[look.task]


def uneven(look: Look) -> bool:
    """Whether accuracy says little, because some classes are rare. Metrics of labels count each
    label equally anyway."""
    rare = look.largest >= IMBALANCE * max(1, look.smallest)
    return look.task == "Classification" and rare


def _batch(look: Look) -> int:
    """A power of two with at least three steps an epoch."""
    most = 128 if look.device == "cuda" and look.train > 20_000 else 64
    return max(2, min(most, 1 << (look.train // 3).bit_length() - 1 if look.train >= 6 else 2))


def _space(
    look: Look, shape: tuple[int, int, int], most: int | None
) -> tuple[int, tuple[int, ...], tuple[int, ...], int]:
    """Depth, widths and kernels of the richest chain space all of whose networks have at most so
    many parameters, and the parameters of its largest."""
    found: list[tuple[int, tuple[int, ...], tuple[int, ...], int]] = []
    least = math.inf
    for depth, kernels in _depths(min(shape[1:])):
        for top in TOPS:
            if top > WIDEST[look.device]:
                continue
            largest = _largest(look, shape, depth, top, max(kernels))
            least = min(least, largest)
            if most is None or largest <= most:
                found.append((depth, _widths(top), kernels, largest))
                break
    if not found:
        raise CannotPlan(
            f"no chain of layers has {most:,} parameters or fewer with "
            f"{counted(shape[0], 'channel')} and {look.targets}; the smallest network has "
            f"{least:,.0f}"
        )
    deep = [each for each in found if each[0] >= ENOUGH_DEPTH]
    wide = [each for each in deep if max(each[1]) >= ENOUGH_WIDTH]
    return wide[0] if wide else deep[-1] if deep else found[0]


def _depths(side: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    deepest = 6 if side <= 16 else 8 if side <= 48 else 10
    for depth in range(deepest, 1, -2):
        yield depth, (3, 5)
        yield depth, (3,)


def _widths(top: int) -> tuple[int, ...]:
    """Four widths up to the widest."""
    return tuple(sorted({max(2, round(top * share)) for share in (0.25, 0.5, 0.75, 1.0)}))


def _largest(look: Look, shape: tuple[int, int, int], depth: int, top: int, kernel: int) -> int:
    layer = {"op": "conv", "width": top, "kernel": kernel, "stride": 1}
    space = make_space(chain(depth, (top,), (kernel,)))
    frame = Frame(shape, look.outputs, space.scale(final=True))
    return space.graph({"layers": [layer] * depth}, frame).params()


def chain(depth: int, widths: Sequence[int], kernels: Sequence[int]) -> SpaceModel:
    """The space that is proposed."""
    options = {"minDepth": 2, "maxDepth": depth, "widths": list(widths), "kernels": list(kernels)}
    return SpaceModel.model_validate({"type": "Chain", "chain": options})


def _pass_seconds(look: Look, proposed: Plan, shape: tuple[int, int, int]) -> float:
    """About what one sample costs in training, by the median of networks drawn at random."""
    space = make_space(chain(proposed.depth, proposed.widths, proposed.kernels))
    macs = median(_drawn(space, Frame(shape, look.outputs, space.scale(final=True))))
    return STEP / proposed.batch + 3 * macs / SPEED[look.device]


def _drawn(space: Space, frame: Frame) -> list[int]:
    rng = np.random.default_rng(0)
    found: list[int] = []
    while len(found) < 15:
        try:
            found.append(space.graph(space.sample(rng), frame).macs())
        except InfeasibleError:
            found.append(0)
    return found


def _paced(proposed: Plan, pass_seconds: float) -> Plan:
    """With as many trials as the time pays for: cheaper ones where these are few, longer ones where
    they are many."""
    look, kept = proposed.look, proposed.wishes.seconds - proposed.search_seconds

    def paced(plan: Plan) -> Plan:
        seconds = TRIAL + look.train * plan.low_epochs * plan.fraction * pass_seconds
        trials = int(plan.search_seconds * plan.parallelism / seconds)
        return replace(plan, trials=max(1, trials), trial_seconds=seconds)

    plan = paced(proposed)
    while plan.trials < WANTED and plan.low_epochs > 3:
        plan = paced(replace(plan, low_epochs=max(3, plan.low_epochs // 2)))
    while plan.trials < WANTED and plan.fraction > 0.25:
        plan = paced(replace(plan, fraction=plan.fraction / 2))
    while plan.trials > MANY and plan.low_epochs < plan.epochs:
        plan = paced(replace(plan, low_epochs=min(plan.epochs, plan.low_epochs * 2)))
    if 5 * plan.low_epochs > 4 * plan.epochs:
        plan = paced(replace(plan, low_epochs=plan.epochs))
    final = look.train * plan.epochs * pass_seconds
    if final > 2 * kept:  # finalists would take longer than what is kept for them
        fewer = max(plan.low_epochs, 10, round(plan.epochs * 2 * kept / final))
        plan = replace(plan, epochs=min(plan.epochs, fewer))
    return replace(plan, population=_population(min(plan.trials, MOST_TRIALS)))


def _population(trials: int) -> int | None:
    """A quarter of the trials, in bounds; None where these are too few for evolution."""
    return None if trials < FEW else max(8, min(30, trials // 4))

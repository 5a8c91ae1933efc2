"""Choose a search for the given data and time, by simple rules.

A proposal is a starting point, not an optimum. The cost of a trial is a rough guess from the
multiply-adds of random networks in the space. The budget is a time, so it holds even if the guess
is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from kinase.api.auto import LEAST_EPOCHS
from kinase.api.estimation import ASHAEstimation
from kinase.api.look import Look
from kinase.api.objective import known_metrics
from kinase.api.space import Space as SpaceModel
from kinase.space import Frame, InfeasibleError, Space, make_space
from kinase.words import counted

METRICS = {"Classification": "val_accuracy", "MultiLabel": "val_map", "Regression": "val_rmse"}
"""What is optimized by default, by task."""
SIDES = (8, 16, 24, 32, 48, 64, 96, 128)
"""Heights and widths that are proposed for images of different sizes."""
LARGEST = {"cpu": 64, "mps": 96, "cuda": 128}
"""Maximum by device, because the cost of a trial grows with the square."""
TOPS = (128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4)
"""Numbers of filters to try for the widest layer, in decreasing order."""
WIDEST = {"cpu": 64, "mps": 96, "cuda": 128}
"""Maximum number of filters of a layer, by device."""
ENOUGH_WIDTH = 16
"""If the widest layer would have fewer filters than this, the depth is reduced first, ..."""
ENOUGH_DEPTH = 4
"""... down to this number of layers."""
SPEED = {"cpu": 7e9, "mps": 1e11, "cuda": 1e12}
"""Multiply-adds per second of one slot in training; a sample counts as three times its forward
pass. The CPU's value is that of the digits example (bench/README.md, section 1); the others are
cautious guesses."""
STEP = 2e-3
"""Fixed seconds per training step, in addition to the multiply-adds."""
TRIAL = 0.15
"""Fixed seconds per trial, in addition to its training."""
SEARCH_SHARE = 0.75
"""Share of the time for the search; the rest is for the finalists."""
WANTED = 40
"""If the time pays for fewer trials in rungs than this, all get a few epochs instead, and then less
data."""
FEW = 24
"""Below this number of trials random search is as good, because evolution's start alone takes a
third of them."""
MANY = 300
"""If the time pays for this number of trials in full, candidates are trained in full."""
MOST_TRIALS = 500
"""Maximum of `budget.trials`: with more trials on the same validation split, chance decides."""
IMBALANCE = 10
"""Ratio of the largest class to the smallest above which accuracy says little."""
BALANCED = ("val_balanced_accuracy", "val_f1")
"""Metrics for such data; the first one that the task measures is used."""


class CannotPlan(ValueError):
    """No search can be proposed; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The user's requirements."""

    seconds: float = 1800.0
    """Time for search and finalists."""
    max_params: int | None = None
    """Maximum number of parameters of a network."""
    metric: str | None = None
    """Metric to optimize, or None to choose one."""
    resolution: int | None = None
    """Height and width of an image, or None to choose them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A proposed search."""

    look: Look
    wishes: Wishes
    side: int | None
    """`task.resolution`, or None for the images' own size."""
    metric: str
    depth: int
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    largest: int
    """Parameters of the largest network of the space."""
    epochs: int
    """Epochs of a full training."""
    low_epochs: int
    """Epochs of a candidate's training; on a ladder their mean."""
    ladder: bool
    """Whether candidates are trained in rungs, by ASHA."""
    fraction: float
    """Share of the data for a candidate's training."""
    batch: int
    crop: int
    parallelism: int
    trials: int
    """Approximate number of trials."""
    trial_seconds: float
    """Approximate seconds per trial."""
    population: int | None
    """Population of evolution, or None for random search."""
    search_seconds: int
    finalists: int


def plan(look: Look, wishes: Wishes) -> Plan:
    """Propose a search.

    Raises:
        CannotPlan: the metric is unknown, or no network is small enough.
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
        low_epochs=epochs,
        ladder=False,
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
    """Batch size: a power of two with at least three steps per epoch."""
    most = 128 if look.device == "cuda" and look.train > 20_000 else 64
    return max(2, min(most, 1 << (look.train // 3).bit_length() - 1 if look.train >= 6 else 2))


def _space(
    look: Look, shape: tuple[int, int, int], most: int | None
) -> tuple[int, tuple[int, ...], tuple[int, ...], int]:
    """Depth, widths and kernels of the largest chain space whose networks all respect the maximum
    number of parameters, and the parameters of its largest network."""
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
    """The proposed space."""
    options = {"minDepth": 2, "maxDepth": depth, "widths": list(widths), "kernels": list(kernels)}
    return SpaceModel.model_validate({"type": "Chain", "chain": options})


def _pass_seconds(look: Look, proposed: Plan, shape: tuple[int, int, int]) -> float:
    """Approximate cost of training on one sample: the median of random networks."""
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
    """Set how candidates are trained and how many the time pays for: in full if it pays for many
    full trainings, else in rungs, else all with a few epochs on a part of the data."""
    look, kept = proposed.look, proposed.wishes.seconds - proposed.search_seconds

    def paced(plan: Plan) -> Plan:
        seconds = TRIAL + look.train * plan.low_epochs * plan.fraction * pass_seconds
        trials = int(plan.search_seconds * plan.parallelism / seconds)
        return replace(plan, trials=max(1, trials), trial_seconds=seconds)

    def climbing(plan: Plan) -> Plan:
        mean = ASHAEstimation().mean_epochs(plan.epochs)
        return paced(replace(plan, low_epochs=mean, ladder=True))

    plan = paced(proposed)
    if plan.trials < MANY:
        plan = climbing(proposed)
    if plan.trials < WANTED:
        plan = paced(replace(proposed, low_epochs=proposed.epochs // 4))
    while plan.trials < WANTED and plan.low_epochs > 3:
        plan = paced(replace(plan, low_epochs=max(3, plan.low_epochs // 2)))
    while plan.trials < WANTED and plan.fraction > 0.25:
        plan = paced(replace(plan, fraction=plan.fraction / 2))
    final = look.train * plan.epochs * pass_seconds
    if final > 2 * kept:  # finalists would take longer than the time reserved for them
        least = LEAST_EPOCHS if plan.ladder else plan.low_epochs
        fewer = max(least, 10, round(plan.epochs * 2 * kept / final))
        plan = replace(plan, epochs=min(plan.epochs, fewer))
        plan = climbing(plan) if plan.ladder else plan
    return replace(plan, population=_population(min(plan.trials, MOST_TRIALS)))


def _population(trials: int) -> int | None:
    """A quarter of the trials, within bounds, or None if there are too few for evolution."""
    return None if trials < FEW else max(8, min(30, trials // 4))

"""BOHB's model: candidates that good trials make likely, and the others do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from kinase.api.strategy import BOHBStrategy
from kinase.api.trial import Architecture
from kinase.history import History, Trial
from kinase.space import Rng
from kinase.strategy._fresh import random_fresh
from kinase.strategy.base import Proposal, Strategy
from kinase.strategy.kernel import MixedDensity, Reals


@dataclass(frozen=True, slots=True)
class Model:
    """What is fitted to the trials of one rung."""

    rung: int
    parts: list[int]
    """The parts of the encoding that differ among the trials."""
    good: MixedDensity
    bad: MixedDensity
    best: list[Trial]
    """The trials that the good density is of."""


class BOHB(Strategy):
    """BOHB's sampling (Falkner et al. 2018, section 4 and algorithm 2), for Hyperband or any other
    estimation with rungs; with one rung it is a tree-structured Parzen estimator (Bergstra et al.
    2011) with joint densities.

    The model is of the highest rung with enough results. Its N trials are split into the best
    max(m, top N) and the worst max(m, (1 - top) N), where m is `minPoints`; both need so many. A
    share of the proposals is random; each other is the candidate, of `samples` many, at which the
    good density exceeds the bad one by the largest factor.

    A candidate is drawn around a good trial, as in the authors' code: a number from its kernel,
    widened by `bandwidthFactor` and truncated to 0..1; a choice stays with a probability of 1 less
    its bandwidth, else it is any of its options. That holds for the free parts of the encoding,
    such as the settings of `space.training`. For the others a point of the encoding need not be an
    architecture, so there are random edits instead: as many as a draw would change choices, for
    each with the probability of its bandwidth, and for each number with that of `bandwidthFactor`
    times it. Where nothing is drawn, there is one edit.
    """

    options: BOHBStrategy

    def __init__(self, *args: object, **kwargs: object) -> None:
        """See `Strategy`."""
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._parts = self.space.encoding
        self._options = [part.options for part in self._parts]
        self._codes: dict[int, Reals] = {}
        self._fitted: tuple[History | None, list[int], Model | None] = (None, [], None)
        """For which history, with how many results at each rung; like the codes it only saves
        time."""

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """A random architecture, or the model's best of some candidates."""
        model = self.model(history)
        if model is None or rng.random() < self.options.random_fraction:
            return random_fresh(self.space, history, rng)
        drawn = [self._candidate(model, rng) for _ in range(self.options.samples)]
        codes = np.array([self.encode(each) for each in drawn])[:, model.parts]
        excess = model.good.log(codes) - model.bad.log(codes)
        for place in np.argsort(-excess, kind="stable"):  # a key takes longer than a density
            if self.space.key(drawn[place]) not in history.by_key:
                return Proposal(drawn[place], (), "model")
        return random_fresh(self.space, history, rng)

    def parents_to_come(self, history: History) -> set[int]:
        """None: a candidate is trained from scratch."""
        return set()

    def encode(self, architecture: Architecture) -> Reals:
        """An architecture as one value for each part of the space's encoding: a number, or the
        place of a choice, 0 where it is not made."""
        vector = self.space.vector(architecture)
        found, start = [], 0
        for part in self._parts:
            columns = vector[start : start + part.columns]
            start += part.columns
            if part.choice:
                found.append(float(columns.argmax() + 1) if columns.any() else 0.0)
            else:
                found.append(float(columns[0]))
        return np.array(found)

    def model(self, history: History) -> Model | None:
        """What the highest rung with enough results says; None where none has."""
        of, known, model = self._fitted
        results = [history.reached(rung, None) for rung in range(history.highest + 1)]
        if of is not history or known != results:
            model = self._fit(history)
            self._fitted = (history, results, model)
        return model

    def _fit(self, history: History) -> Model | None:
        for rung in reversed(range(history.highest + 1)):
            there = history.at(rung)
            if len(there) < 2:
                continue
            codes = np.array([self._code(trial, history) for trial in there])
            parts = [int(p) for p in np.flatnonzero((codes != codes[0]).any(axis=0))]
            least = self.options.min_points or len(parts) + 1
            count = len(there)
            good = max(least, int(self.options.top * count))
            bad = max(least, int((1 - self.options.top) * count))
            usable = sum(1 for trial in there if trial.rungs[rung][0] != float("inf"))
            if not parts or count < good + least or usable < good:
                continue
            options = [self._options[part] for part in parts]
            codes = codes[:, parts]
            return Model(
                rung,
                parts,
                MixedDensity(codes[:good], options, least=self.options.min_bandwidth),
                MixedDensity(codes[-bad:], options, least=self.options.min_bandwidth),
                there[:good],
            )
        return None

    def _code(self, trial: Trial, history: History) -> Reals:
        if self._fitted[0] is not history:
            self._fitted = (history, [], None)
            self._codes = {}
        if trial.number not in self._codes:
            self._codes[trial.number] = self.encode(trial.architecture)
        return self._codes[trial.number]

    def _candidate(self, model: Model, rng: Rng) -> Architecture:
        drawn = int(rng.integers(len(model.best)))
        architecture, center = model.best[drawn].architecture, model.good.points[drawn]
        values: dict[int, float] = {}
        for place, part in enumerate(model.parts):
            width, options = float(model.good.bandwidth[place]), self._options[part]
            if options == 0:
                width *= self.options.bandwidth_factor
            if not self._parts[part].free:
                if rng.random() < width:
                    values[part] = math.nan  # an edit, somewhere
            elif options == 0:
                values[part] = _truncated(float(center[place]), width, rng)
            elif rng.random() < width:
                values[part] = float(rng.integers(1, options + 1))
        if not values:
            return self.space.mutate(architecture, rng)
        return self.space.near(architecture, values, rng)


def _truncated(mean: float, deviation: float, rng: Rng) -> float:
    """A draw from a normal distribution truncated to 0..1; `mean` is in there."""
    normal = NormalDist(mean, deviation)
    share = rng.uniform(normal.cdf(0.0), normal.cdf(1.0))
    return min(max(normal.inv_cdf(max(share, 1e-300)), 0.0), 1.0)

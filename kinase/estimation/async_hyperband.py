"""Asynchronous Hyperband: asynchronous successive halving from several first rungs."""

from __future__ import annotations

from bisect import bisect
from functools import cached_property
from itertools import accumulate

from kinase.api.estimation import AsyncHyperbandEstimation
from kinase.api.fidelity import Grant
from kinase.estimation.asha import ASHA
from kinase.estimation.hyperband import sizes
from kinase.estimation.ladder import in_bracket
from kinase.history import History


class AsyncHyperband(ASHA):
    """Asynchronous Hyperband (Li et al. 2020, section 3.3): the candidates of bracket b begin at
    rung b, and are compared with those of their bracket only. A candidate's bracket is drawn in
    proportion to the sizes of Hyperband's brackets, from those that the budget still pays for. The
    draw depends on the seed and on the number of trials so far.
    """

    options: AsyncHyperbandEstimation

    @cached_property
    def brackets(self) -> tuple[tuple[Grant, ...], ...]:
        """One for each first rung."""
        return tuple(in_bracket(self.ladder, number) for number in range(len(self.ladder)))

    @cached_property
    def weights(self) -> tuple[int, ...]:
        """Of each bracket, in the draw."""
        return sizes(len(self.ladder), self.options.eta, self.options.brackets)

    def draw(self, brackets: list[int], history: History) -> int:
        """A bracket in proportion to the weights."""
        ends = list(accumulate(self.weights[number] for number in brackets))
        drawn = int(self.rng(len(history.asked)).integers(ends[-1]))
        return brackets[bisect(ends, drawn)]

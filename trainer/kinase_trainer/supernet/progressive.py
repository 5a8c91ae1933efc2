"""Options are given up while a supernet trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from kinase.api import supernet_options as api
from kinase.space.supernet import NONE
from kinase_trainer.data import steps_of
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.drnas import DrNas
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.supernet.gaea import Gaea
from kinase_trainer.supernet.pc_darts import PcDarts
from kinase_trainer.supernet.relaxation import Relaxation
from kinase_trainer.supernet.snas import Snas
from kinase_trainer.train import learning_rate

if TYPE_CHECKING:
    from kinase_trainer.supernet.run import SupernetRun


class Progressive(Extra):
    """After a part of the epochs each choice keeps its best options only (Chen et al. 2021, section
    3.3): the others are not run any more, so that a step takes less time and memory. The weights of
    those left are scaled to a sum of 1. The learning rate of the weights begins again."""

    name = "progressive"

    def __init__(self, plan: api.Progressive, relaxation: Relaxation) -> None:
        """All options take part.

        Raises:
            ValueError: the choices are not weighted sums of all options.
        """
        if not isinstance(relaxation, Darts | PcDarts | Gaea | Snas | DrNas):
            raise ValueError(
                "progressive is for the relaxations DARTS, PCDARTS, GAEA, SNAS and DrNAS"
            )
        self.plan = plan
        self.kept: dict[str, list[int]] = {}
        """The options that each group has kept; empty before."""

    def first(self, run: SupernetRun) -> int:
        """The epoch before which options are given up."""
        return min(max(1, round(run.epochs * self.plan.after)), run.epochs - 1)

    def begin(self, run: SupernetRun) -> None:
        """Keep the best when it is time."""
        if run.epoch == self.first(run) and not self.kept:
            self.kept = self._best(run)
            run.optimizer.state.clear()  # the weights begin again, with another learning rate
        run.network.keep(self.kept)

    def _best(self, run: SupernetRun) -> dict[str, list[int]]:
        """Of each group the options with the highest probabilities, in their order. Where a node
        takes some of its edges, none does not count."""
        supernet, rows = run.network.supernet, run.relaxation.probabilities()
        limited = {g for node in supernet.inputs if node.least is None for g in node.groups}
        found = {}
        for group, options in supernet.groups.items():
            real = [n for n, o in enumerate(options) if o != NONE or group not in limited]
            row = rows[group].tolist()
            best = sorted(real, key=row.__getitem__, reverse=True)
            found[group] = sorted(best[: self.plan.keep])
        return found

    def rate(self, run: SupernetRun, rate: float) -> float:
        """One schedule for each part."""
        first, t = self.first(run), run.training
        begun, length = (0, first) if run.epoch < first else (first, run.epochs - first)
        steps = steps_of(len(run.train), t.batch_size)
        return learning_rate(t, (run.epoch - begun) * steps + run.step, steps, length)

    def freezes(self, run: SupernetRun) -> bool:
        """The choices do not learn in the first epochs of the second part either."""
        done = run.epoch - self.first(run)
        return 0 <= done < run.frozen

    def derived(self, run: SupernetRun) -> list[tuple[dict[str, int], float]] | None:
        """The best path of the options that are left."""
        if not self.kept:
            return None
        rows = {group: row.tolist() for group, row in run.relaxation.scores().items()}
        for group, row in rows.items():
            rows[group] = [s if n in self.kept[group] else s - 2.0 for n, s in enumerate(row)]
        path = run.network.supernet.best(rows)
        taken = [float(run.relaxation.scores()[g][o]) for g, o in path.items()]
        return [(path, sum(taken) / len(taken))]

    def pack(self) -> tuple[dict[str, Tensor], Any]:
        """The options that are kept."""
        return {}, self.kept

    def unpack(self, tensors: dict[str, Tensor], rest: Any) -> None:
        """See `Extra`."""
        try:
            kept = {
                str(group): [int(n) for n in options] for group, options in (rest or {}).items()
            }
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"its kept options are {rest!r:.80}; use numbers by group") from None
        self.kept = kept

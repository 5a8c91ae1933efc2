"""The watch of collapse, and the early stop by the curvature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kinase.api import supernet_options as api
from kinase.space.supernet import NONE, SKIP, Supernet
from kinase_trainer.supernet.eigenvalue import STEPS, dominant_eigenvalue
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.supernet.relaxation import Learned
from kinase_trainer.supernet.statistics import batch_statistics

if TYPE_CHECKING:
    from kinase_trainer.supernet.run import SupernetRun

SKIPS = frozenset({"skip_connect", "skip", "identity"})
"""Options that pass a map on as it is."""


def share_of_skips(supernet: Supernet, path: Mapping[str, int]) -> float:
    """The share of skips among a path's options other than none: of a collapsed search it is close
    to 1 (Zela et al. 2020, section 3). A map that joins the result of an operation does not count,
    because it takes no operation's place."""
    taken = [
        supernet.groups[group][option]
        for group, option in path.items()
        if not {NONE, SKIP}.issuperset(supernet.groups[group])
    ]
    real = [option for option in taken if option != NONE]
    return sum(option in SKIPS for option in real) / len(real) if real else 0.0


def returns_to(values: Sequence[float], stop: api.EarlyStop) -> int | None:
    """Where a search should have ended (Zela et al. 2020, section 5.1).

    Args:
        values: dominant eigenvalues, the last one of now.
        stop: the rule.

    Returns:
        The number of the evaluation to whose choices it returns, or None if it continues: the
        mean around an evaluation is larger than that around an earlier one by the ratio.
    """
    half = stop.window // 2
    now = len(values) - 1 - half
    earlier = now - stop.earlier
    if earlier < 0:
        return None

    def mean(center: int) -> float:
        around = values[max(center - half, 0) : center + half + 1]
        return math.fsum(around) / len(around)

    return earlier if mean(earlier) > 0 and mean(now) > stop.ratio * mean(earlier) else None


class Watch(Extra):
    """Reports how many skips are chosen, how undecided the choices are, and how curved the held-out
    loss is in them (Zela et al. 2020); can end the search where that grows."""

    name = "watch"
    steps = STEPS
    """Products for an eigenvalue at most."""

    def __init__(self, plan: api.Watch) -> None:
        """Nothing is known yet."""
        self.plan = plan
        self.values: list[float] = []
        """The eigenvalues so far."""
        self.kept: dict[int, dict[str, Tensor]] = {}
        """The choices at the evaluations to which it can return, by their numbers."""
        self._metrics: dict[str, float] = {}

    @property
    def every(self) -> int:
        """Epochs between two evaluations; 0 for none."""
        return self.plan.every or (2 if self.plan.stop else 0)

    def _due(self, run: SupernetRun, done: int) -> bool:
        learns = isinstance(run.relaxation, Learned) and run.chooser is not None
        return learns and self.every > 0 and done % self.every == 0

    def passes(self, run: SupernetRun) -> int:
        """A gradient of the second order is counted as two passes."""
        if not self._due(run, run.epoch + 1):
            return 0
        return min(run.training.batch_size, len(run.held)) * 2

    def after(self, run: SupernetRun) -> None:
        """Look at the choices; end the search if its time has passed."""
        if run.chooser is None:
            return
        relaxation = run.relaxation
        path, _ = run.derived()[0]
        self._metrics = {
            "supernet_skips": share_of_skips(relaxation.supernet, path),
            "supernet_entropy": relaxation.entropy(),
        }
        if not self._due(run, run.epoch):
            return
        self.values.append(self._evaluate(run))
        self._metrics["supernet_eigenvalue"] = self.values[-1]
        stop = self.plan.stop
        if stop is None:
            return
        number = len(self.values) - 1
        self.kept[number] = {n: t.detach().clone() for n, t in relaxation.named_parameters()}
        for old in [n for n in self.kept if n < number - stop.window // 2 - stop.earlier]:
            del self.kept[old]
        found = returns_to(self.values, stop) if run.epoch >= stop.first else None
        if found is not None and found in self.kept:
            earlier = (found + 1) * self.every
            with torch.no_grad():
                for name, parameter in relaxation.named_parameters():
                    parameter.copy_(self.kept[found][name])
            run.ended = (
                f"the dominant eigenvalue has grown by a factor above {stop.ratio:g}; the choices "
                f"are those after epoch {earlier}"
            )

    def _evaluate(self, run: SupernetRun) -> float:
        """The eigenvalue on one held-out batch, with its own statistics."""
        images, targets = run.held_batch()
        seed = int(torch.randint(2**62, (), generator=run.draws))
        training = run.network.training
        run.network.eval()
        with batch_statistics(run.network):
            loss = run.part(run.choices_loss(images, targets, seed), targets)
            value, products = dominant_eigenvalue(
                loss, list(run.relaxation.parameters()), run.draws, self.steps, run.group.add
            )
        run.network.train(training)
        run.charge((1 + 2 * products) * len(targets))
        return value

    def metrics(self) -> dict[str, float]:
        """`supernet_skips`, `supernet_entropy` in nats, and `supernet_eigenvalue`."""
        return self._metrics

    def pack(self) -> tuple[dict[str, Tensor], Any]:
        """The eigenvalues, and the choices to which it can return."""
        tensors = {f"{n}.{name}": t for n, kept in self.kept.items() for name, t in kept.items()}
        return tensors, self.values

    def unpack(self, tensors: dict[str, Tensor], rest: Any) -> None:
        """See `Extra`."""
        values = rest or []
        if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
            raise ValueError(f"its eigenvalues are {values!r:.80}; use a list of numbers")
        kept: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            number, _, name = key.partition(".")
            if not number.isdigit() or int(number) >= len(values):
                raise ValueError(f"its choices {key!r:.80} are of no evaluation")
            kept.setdefault(int(number), {})[name] = tensor.clone()
        self.values, self.kept = [float(v) for v in values], kept

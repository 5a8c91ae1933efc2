"""What a scheduler says that has nothing to start."""

from __future__ import annotations

from kinase.estimation.decision import End, Left, Wait
from kinase.history import History


def pays(left: Left, epochs: int) -> bool:
    """Whether the budget has so many epochs left."""
    return left.epochs is None or epochs <= left.epochs


def wait_or_end(history: History, left: Left) -> Wait | End:
    """Wait for what runs; else the search is over."""
    if history.running:
        return Wait()
    if left.trials == 0:
        return End("no trial is left to begin, and none to promote")
    return End(f"the budget that is left ({left.epochs:,} of its epochs) pays for no further trial")

"""The end of an experiment: the winner, and its one use of the test part."""

from __future__ import annotations

from collections.abc import Callable

from kinase.experiment import artifacts, finals
from kinase.experiment.dispatch import Dispatch
from kinase.experiment.entries import Finished
from kinase.experiment.record import Record


def finished(
    record: Record, dispatch: Dispatch, patience: Callable[[], float], *, results: bool
) -> Finished | None:
    """The last entry. The winner touches the test part once, not again where it has won before.

    Args:
        record: of the experiment.
        dispatch: scores the winner.
        patience: how long to wait for events before it is asked again.
        results: whether trials leave results in the store.

    Returns:
        None if it was interrupted.

    Raises:
        EngineError: the winner cannot be scored.
    """
    winner = finals.winner(record.state, lambda trial: finals.kept_losses(record, trial))
    entry = finals.finished(record, winner)
    if winner is not None and results and winner.number not in record.state.tests:
        result = dispatch.test(winner, patience)
        if result is None:
            return None
        measured = {"test": result.metrics, "confusion": result.confusion}
        entry = entry.model_copy(update=measured)
    if results:  # what a killed trainer, or another's, has left
        artifacts.clean(record.store, record.spec.storage)
    return entry.model_copy(update={"elapsed": record.elapsed})

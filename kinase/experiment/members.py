"""Whose fault it is when a member of another package fails in the middle of a search."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

from kinase.engine import EngineError
from kinase.space import Space
from kinase.store import Store
from kinase.words import counted

if TYPE_CHECKING:
    from kinase.experiment.record import Record


def method_of(error: BaseException, space: Space) -> str | None:
    """The method of a space in which an error was raised, the outermost of them; None where the
    space had no part in it."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_locals.get("self") is space:
            return trace.tb_frame.f_code.co_name
        trace = trace.tb_next
    return None


def plain(architecture: Any) -> None:
    """Refuse what cannot be kept in the journal.

    Raises:
        TypeError: it is not a dict of plain JSON data.
    """
    try:
        json.dumps(architecture, allow_nan=False)
        if isinstance(architecture, dict):
            return
    except (TypeError, ValueError, RecursionError):
        pass
    raise TypeError(
        f"the architecture is {architecture!r:.200}; wanted is a dict of plain JSON data"
    )


def space_failed(record: Record, method: str | None, error: BaseException) -> EngineError:
    """What ends the search if a space of another package fails.

    Args:
        record: of the experiment.
        method: that failed, if it is known.
        error: what it raised, or what is wrong with what it returned.
    """
    who = f"the space {record.spec.space.shown}" + (f" ({method})" if method else "")
    asked = record.state.searched
    return failed(who, asked, error, record.store, f"errors/space-{asked:05d}.txt")


def failed(who: str, trials: int, error: BaseException, store: Store, key: str) -> EngineError:
    """What ends the search: one line that names the member, with the traceback in the store.

    Args:
        who: the member, such as ``the strategy own``.
        trials: how many were asked before.
        error: what it raised, or what is wrong with what it gave.
        store: of the experiment.
        key: of the traceback.
    """
    store.put(key, "".join(traceback.format_exception(error)).encode())
    text = " ".join(str(error).split())
    return EngineError(
        f"{who} failed after {counted(trials, 'trial')}: {type(error).__name__}: "
        f"{text:.500}; the traceback is in {store.uri}/{key}"
    )

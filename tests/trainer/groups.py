"""Groups of workers in the threads of one process: quick, and with gloo as between processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from kinase_trainer.group import Group, _listen_here

T = TypeVar("T")


def together(work: Callable[[Group], T], size: int = 2, seconds: float = 30) -> list[T]:
    """What each worker of a group returns. An error of one is raised, after all have ended."""
    _listen_here("127.0.0.1")
    store: Any = dist.HashStore()  # type: ignore[attr-defined]
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            gloo: Any = dist.ProcessGroupGloo  # type: ignore[attr-defined]
            processes = gloo(store, rank, size, timedelta(seconds=seconds))
            results[rank] = work(Group(rank, size, processes))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 10)
    if errors:
        raise errors[0]
    return [results[rank] for rank in range(size)]

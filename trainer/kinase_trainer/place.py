"""A worker's place in the group that trains one network, from the environment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kinase.api.trial import MAX_WORKERS
from kinase_trainer.errors import ConfigError

JOIN_SECONDS = 600.0
"""Seconds that a worker waits for the others at the start: images are pulled meanwhile."""


@dataclass(frozen=True)
class Place:
    """What the environment says of a worker."""

    rank: int
    size: int
    host: str
    port: int
    patience: float = JOIN_SECONDS

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Place | None:
        """The place in a group; None for a trial with one worker.

        Raises:
            ConfigError: a variable is invalid.
        """
        size = _whole(environ, "KINASE_WORLD", 1, MAX_WORKERS) if environ.get("KINASE_WORLD") else 1
        if size == 1:
            return None
        rank = _whole(environ, "KINASE_RANK", 0, size - 1)
        text = environ.get("KINASE_RENDEZVOUS", "")
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(
                f"KINASE_RENDEZVOUS is {text!r}; it must be HOST:PORT, where worker 0 listens"
            )
        given = environ.get("KINASE_JOIN_SECONDS") or str(JOIN_SECONDS)
        try:
            patience = float(given)
        except ValueError:
            patience = math.nan
        if not 0 < patience < math.inf:
            raise ConfigError(
                f"KINASE_JOIN_SECONDS is {given!r}; it must be a number of seconds above 0"
            )
        return cls(rank, size, host.strip("[]"), int(port), patience)


def _whole(environ: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = environ.get(name, "")
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ConfigError(f"{name} is {text!r}; it must be a whole number in {low}..{high}")
    return int(text)

"""How a trial's process ends: its termination message, and the handling of SIGTERM.

This module imports little. It is loaded before everything that takes time, because the first
process of a container ignores a signal without a handler.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import NoReturn

MOST_BYTES = 4096
"""Maximum size of a termination message in Kubernetes."""
MOST_TEXT = 2048
"""Maximum characters of its field `message`."""
TERMINATED = 128 + signal.SIGTERM


class Terminated(Exception):
    """SIGTERM was received; the last epoch is in the checkpoint."""


class Ending:
    """Contents of a trial's termination message."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read the path of the message and the name of its metric from the environment."""
        self._path = environ.get("KINASE_TERMINATION_LOG")
        self._metric = environ.get("KINASE_METRIC", "")
        self.value: float | None = None
        self.epochs: int | None = None
        self.scored: int | None = None
        """Candidates scored so far, in a job of several."""
        self.paused = False
        """Whether the trial can be trained further, after the end of its stretch."""

    def note(self, epochs: int, metrics: Mapping[str, float]) -> None:
        """Metrics after `epoch` epochs."""
        self.epochs = epochs
        value = metrics.get(self._metric)
        self.value = value if value is not None and math.isfinite(value) else None

    def say(self, message: str) -> None:
        """Write the termination message. It is a hint: a failure is ignored."""
        if not self._path:
            return
        data = compose(self.value, self.epochs, message, paused=self.paused)
        try:
            with open(self._path, "wb") as file:
                file.write(data)
        except OSError as error:
            print(f"kinase_trainer: no termination message: {error}", file=sys.stderr)


def compose(
    value: float | None, epochs: int | None, message: str, *, paused: bool = False
) -> bytes:
    """A `Termination` as JSON, with its text truncated to fit the limit."""
    known = {"value": value, "epochs": epochs, "paused": paused or None}
    text = message.encode(errors="replace").decode()[:MOST_TEXT]
    while True:
        document = {k: v for k, v in known.items() if v is not None} | {"message": text}
        data = json.dumps(document, ensure_ascii=False).encode()
        if len(data) <= MOST_BYTES:
            return data
        text = text[: len(text) * 3 // 4]


class Terminator:
    """Ends the process after SIGTERM.

    Before the training, it ends immediately; during an epoch, after its checkpoint is written;
    after the last epoch, after the result is written. It does not wait for an epoch or a result
    that would take longer than the grace period, or for an unavailable store.
    """

    def __init__(self, ending: Ending) -> None:
        """Start before the training."""
        self.ending = ending
        self.grace: float | None = None
        """Seconds from SIGTERM to SIGKILL, if known."""
        self.outage: Callable[[], bool] = lambda: False
        """Whether the store is unavailable."""
        self.asked = False
        self._began: float | None = None
        self._took: float | None = None
        self._finishing = False
        self._alarm = False
        self._process = os.getpid()

    def begin(self, done: int) -> None:
        """Called before every epoch, with the number of completed epochs."""
        if self.asked:
            raise Terminated
        self._finishing = False
        self.ending.epochs = done
        self._began = time.monotonic()

    def done(self, *, last: bool) -> None:
        """Called after every epoch. After the last one only the result is left to write."""
        if self._began is not None:
            self._took = time.monotonic() - self._began
        self._finishing = last
        self.check()

    def check(self) -> None:
        """Between two epochs: end if SIGTERM was received."""
        if self.asked and not self._finishing:
            raise Terminated

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGTERM."""
        if os.getpid() != self._process:
            os._exit(TERMINATED)  # a forked child process that reads data
        again, self.asked = self.asked, True
        if self._began is None or self.outage():
            self.end()
        if self.grace is None or again:
            return
        wait = self.grace - min(5.0, self.grace / 10)
        left = 0.0
        if self._took is not None and not self._finishing:
            left = self._took - (time.monotonic() - self._began)
        if left > wait:
            self.end()
        self._alarm = True
        signal.signal(signal.SIGALRM, lambda *_: self.end())
        signal.setitimer(signal.ITIMER_REAL, max(wait, 0.001))

    def over(self) -> None:
        """The outcome is decided: ignore signals from now on."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self._alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def end(self) -> NoReturn:
        """End immediately. The store keeps what was written."""
        self.ending.say(self.text)
        with contextlib.suppress(Exception):  # another thread may be in the middle of a write
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(TERMINATED)

    @property
    def text(self) -> str:
        """How the trial ended."""
        if self._began is None:
            return "ended by SIGTERM before the training started"
        if self._finishing:
            return "ended by SIGTERM before the result was written"
        if self.ending.scored is not None:
            return f"ended by SIGTERM; candidates scored: {self.ending.scored}"
        return f"ended by SIGTERM; epochs done: {self.ending.epochs}"

"""How a trial's process ends: its termination message, and what SIGTERM does.

This imports little. It stands before all that takes time, because a signal that finds no handler
is lost where the process is the first of its container.
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
"""What Kubernetes keeps of a termination message."""
MOST_TEXT = 2048
"""Characters of its field `message`."""
TERMINATED = 128 + signal.SIGTERM


class Terminated(Exception):
    """The machine is wanted back; the epoch just done is in the checkpoint."""


class Ending:
    """What is known of a trial for its termination message."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read where the message goes, and of which metric it tells the value."""
        self._path = environ.get("KINASE_TERMINATION_LOG")
        self._metric = environ.get("KINASE_METRIC", "")
        self.value: float | None = None
        self.epochs: int | None = None

    def note(self, epochs: int, metrics: Mapping[str, float]) -> None:
        """What was measured after so many epochs."""
        self.epochs = epochs
        value = metrics.get(self._metric)
        self.value = value if value is not None and math.isfinite(value) else None

    def say(self, message: str) -> None:
        """Write the termination message. It is a hint: that it cannot be written ends nothing."""
        if not self._path:
            return
        data = compose(self.value, self.epochs, message)
        try:
            with open(self._path, "wb") as file:
                file.write(data)
        except OSError as error:
            print(f"kinase_trainer: no termination message: {error}", file=sys.stderr)


def compose(value: float | None, epochs: int | None, message: str) -> bytes:
    """A `Termination` as JSON, its text cut so that it is kept whole."""
    known = {"value": value, "epochs": epochs}
    text = message.encode(errors="replace").decode()[:MOST_TEXT]
    while True:
        document = {k: v for k, v in known.items() if v is not None} | {"message": text}
        data = json.dumps(document, ensure_ascii=False).encode()
        if len(data) <= MOST_BYTES:
            return data
        text = text[: len(text) * 3 // 4]


class Terminator:
    """Ends the process after SIGTERM.

    Before the training that is at once, in an epoch when its checkpoint is written, and after
    the last epoch when the result is. An epoch or a result that would come after the grace
    period is not waited for, nor is a store that is out of reach.
    """

    def __init__(self, ending: Ending) -> None:
        """Nothing has begun."""
        self.ending = ending
        self.grace: float | None = None
        """Seconds from SIGTERM to SIGKILL, where they are known."""
        self.outage: Callable[[], bool] = lambda: False
        """Whether the store is out of reach."""
        self.asked = False
        self._began: float | None = None
        self._took: float | None = None
        self._finishing = False
        self._alarm = False
        self._process = os.getpid()

    def begin(self, done: int) -> None:
        """Called before every epoch, with how many are done."""
        if self.asked:
            raise Terminated
        self.ending.epochs = done
        self._began = time.monotonic()

    def done(self, *, last: bool) -> None:
        """Called after every epoch. After the last there is only the result left to write."""
        if self._began is not None:
            self._took = time.monotonic() - self._began
        self._finishing = last
        self.check()

    def check(self) -> None:
        """Between two epochs: end if SIGTERM came."""
        if self.asked and not self._finishing:
            raise Terminated

    def handle(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM came."""
        if os.getpid() != self._process:
            os._exit(TERMINATED)  # a child that reads data, which was forked with this handler
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
        """The outcome is decided: a signal changes nothing any more."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self._alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def end(self) -> NoReturn:
        """End now, whatever is under way; what is in the store stands."""
        self.ending.say(self.text)
        with contextlib.suppress(Exception):  # they may be in the middle of a write
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(TERMINATED)

    @property
    def text(self) -> str:
        """How the trial ended."""
        if self._began is None:
            return "ended by SIGTERM before the training began"
        if self._finishing:
            return "ended by SIGTERM before the result was written"
        return f"ended by SIGTERM; epochs done: {self.ending.epochs}"

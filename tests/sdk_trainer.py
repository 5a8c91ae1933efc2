"""A trainer by `kinase_trainer.sdk` and nothing else, without torch, for tests of the contract.

EPOCH_SECONDS  how long an epoch takes (default 0.01)
KILLED         a trial whose first attempt is killed in its second epoch
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from kinase_trainer import sdk


class Counter:
    """What such a trainer learns: a number that depends on every epoch."""

    value = 0

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


counter = Counter()
with sdk.trial(input=(1, 8, 8), outputs=10, train=1000, validation=200, test=200) as trial:
    trial.keep(counter=counter)
    for epoch in trial.epochs():
        if (os.environ.get("KILLED"), trial.job.attempt, epoch) == (str(trial.job.trial), 1, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("EPOCH_SECONDS", "0.01")))
        counter.value = counter.value * 3 + epoch + trial.seed
        trial.report(epoch, val_accuracy=(counter.value % 997) / 997)
    if trial.testing:
        trial.report_test(test_accuracy=0.5)

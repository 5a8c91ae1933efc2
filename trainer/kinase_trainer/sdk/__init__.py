"""Your own trainer in a few lines: the trial contract for an existing training loop.

    from kinase_trainer import sdk

    with sdk.trial(input=(1, 8, 8), outputs=10, train=1000, validation=200) as trial:
        model = trial.build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trial.keep(model=model, optimizer=optimizer)
        for epoch in trial.epochs(samples=1000):
            ...
            trial.report(epoch, val_accuracy=accuracy)

See docs/own-trainer.md. Nothing here imports torch unless the script does.
"""

from __future__ import annotations

from kinase_trainer.errors import ConfigError
from kinase_trainer.process import fit_threads
from kinase_trainer.sdk.trial import Infeasible, Trial, trial

__all__ = ["ConfigError", "Infeasible", "Trial", "trial"]

fit_threads()

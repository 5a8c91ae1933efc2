"""Trial contract v1 as a process: `python -m kinase_trainer` (see `kinase_trainer.process`)."""

from __future__ import annotations

import os
import signal
import sys

from kinase_trainer.ending import Ending, Terminator

if __name__ == "__main__":
    terminator = Terminator(Ending(os.environ))
    signal.signal(signal.SIGTERM, terminator.handle)  # before the other imports, which take time

    from kinase_trainer.process import fit_threads, main

    fit_threads()
    code = main(terminator=terminator)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a regular shutdown of torch takes half a second

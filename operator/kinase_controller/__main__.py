"""`python -m kinase_controller` (or `kinase controller`): one experiment's controller in its pod.

Exit codes: 0 if the experiment is finished, suspended or deleted; 143 after SIGTERM; 75 if another
controller has taken over; 1 if the store rejects the credentials, which the pod reads again at the
next start. Any other code is a crash, after which the pod restarts it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

STALE = 1
SUPERSEDED = 75
TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    """Run the controller that the environment names; returns the exit code."""
    # PID 1 of a container ignores a SIGTERM without a handler
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
    logging.basicConfig(
        level=os.environ.get("KINASE_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(message)s",
    )
    from kinase_controller.cluster_io import Identity
    from kinase_controller.controller import Controller, Gone, Interrupted, Stale, Terminated

    try:
        who = Identity(
            namespace=os.environ["KINASE_NAMESPACE"],
            experiment=os.environ["KINASE_EXPERIMENT"],
            uid=os.environ["KINASE_EXPERIMENT_UID"],
            pod=os.environ["KINASE_POD"],
        )
    except KeyError as error:
        print(
            f"kinase_controller: {error.args[0]} is not set; the operator sets it", file=sys.stderr
        )
        return 2
    controller = Controller(who)
    signal.signal(signal.SIGTERM, lambda *_: controller.terminate())
    try:
        controller.run()
    except Gone as error:
        logging.info("%s", error)
    except Terminated:
        return TERMINATED
    except Interrupted as error:
        logging.error("%s", error)
        return SUPERSEDED
    except Stale as error:
        logging.error("%s", error)
        return STALE
    return 0


if __name__ == "__main__":
    code = main()
    # threads that read the store must not keep the process alive
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)

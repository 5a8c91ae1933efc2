"""`python -m kinase_operator`: runs the operator; with `manifests`, prints the objects it needs."""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from kinase_operator.settings import from_environment


def main(arguments: list[str] | None = None) -> int:
    """Run the operator, or print its manifests; returns the exit code."""
    parser = argparse.ArgumentParser(prog="kinase_operator", description="The Kinase operator.")
    parser.add_argument("--log-level", default="INFO", help="DEBUG, INFO, WARNING or ERROR")
    commands = parser.add_subparsers(dest="command")
    printed = commands.add_parser(
        "manifests", help="print namespace, rights and Deployment as YAML, for kubectl apply"
    )
    printed.add_argument("--namespace", default="kinase-system", help="where the operator runs")
    printed.add_argument(
        "--watch", action="append", default=[], metavar="NAMESPACE", help="serve it alone"
    )
    printed.add_argument("--image", default="kinase-operator:latest")
    printed.add_argument("--controller-image", default="kinase-controller:latest")
    printed.add_argument("--trainer-image", default="kinase-trainer:latest")
    options = parser.parse_args(arguments)
    if options.command == "manifests":
        import yaml

        from kinase_operator.install import Images, install

        images = Images(options.image, options.controller_image, options.trainer_image)
        objects = install(options.namespace, tuple(options.watch), images)
        yaml.safe_dump_all(objects, sys.stdout, sort_keys=False)
        return 0
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for noisy in ("kopf", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = from_environment()
    except ValueError as error:
        print(f"kinase_operator: {error}", file=sys.stderr)
        return 2
    # PID 1 of a container ignores a SIGTERM without a handler
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    from kinase_operator.app import Operator

    Operator(settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a user sees of a search whose node is cordoned for longer than the trials' time limit.

python -m bench.cordon
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.cluster import system
from tests.cluster.fixtures import a_bucket, a_cluster, a_namespace
from tests.cluster.lab.node import Node
from tests.cluster.lab.s3 import VersityGW
from tests.cluster.system import Scene

HELD = 40
"""Seconds for which the node takes nothing, twice the time limit."""


def main() -> None:
    """Run it and print what there is to see."""
    with tempfile.TemporaryDirectory() as name, a_cluster(Path(name) / "cluster") as cluster:
        folder = Path(name)
        server = VersityGW(folder / "s3")
        server.start()
        node = Node(cluster, folder / "node-1", back_off=1)
        node.start()
        system.install_crds(cluster)
        system.install_rights(cluster)
        system.put_images(node)
        operator = system.Operator(cluster, folder / "operator").start()
        with a_namespace(cluster) as namespace:
            bucket = a_bucket(cluster, namespace, server)
            scene = Scene(cluster, node, operator, namespace, bucket)
            env = [{"name": "FAKE_EPOCH_SECONDS", "value": "1"}]
            template = {"image": system.FAKE, "timeLimit": "20s", "env": env}
            scene.create(trialTemplate=template)
            scene.begins(0)
            cluster.kubectl("cordon", "node-1")
            time.sleep(HELD)
            print(cluster.kubectl("get", "nast,nasx", "-n", namespace))
            cluster.kubectl("uncordon", "node-1")
            began = time.monotonic()
            counts = scene.finished()["status"]["trials"]
            print(f"{time.monotonic() - began:.0f} s after it was uncordoned: {counts}")
        operator.stop()
        node.stop()
        server.stop()


if __name__ == "__main__":
    main()

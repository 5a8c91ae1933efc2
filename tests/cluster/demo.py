"""Kinase on the cluster of `make cluster`: `make operator`, or python -m tests.cluster.demo.

Applies the CRDs and the operator's rights, has the node hold Kinase's images, makes the namespace
`nas` with a bucket and its credentials, and runs the operator in the foreground.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from kinase_operator import install
from tests.cluster import system
from tests.cluster.fixtures import a_bucket
from tests.cluster.lab.__main__ import FOLDER, STATE, status
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Node
from tests.cluster.lab.rest import ApiError

NAMESPACE = "nas"


@dataclass(frozen=True)
class _Server:
    endpoint: str
    access_key: str
    secret_key: str


def main() -> None:
    if status():
        sys.exit(1)
    state = json.loads(STATE.read_text())
    if state["real"]:
        sys.exit("its node runs containers: put Kinase's images there, and install charts/kinase")
    cluster = Cluster(Path(state["kubeconfig"]))
    system.install_crds(cluster)
    system.install_rights(cluster)
    system.put_images(Node(cluster, FOLDER / "node-1"))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    try:
        cluster.api.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": labels}})
        server = _Server(state["endpoint"], state["access_key"], state["secret_key"])
        a_bucket(cluster, NAMESPACE, server)  # type: ignore[arg-type]
    except ApiError as problem:
        if problem.reason != "AlreadyExists":
            raise
    config = cluster.account_kubeconfig(FOLDER / "operator", system.HOME, install.NAME, 12 * 3600)
    environment = {
        **os.environ,
        "KUBECONFIG": str(config),
        "KINASE_CONTROLLER_IMAGE": system.CONTROLLER,
        "KINASE_TRAINER_IMAGE": system.TRAINER,
        "KINASE_PULL_POLICY": "IfNotPresent",
    }
    print(f"# the operator serves all namespaces; {NAMESPACE} has a bucket and its Secret nas-s3:")
    example = system.REPOSITORY / "examples/cluster/digits.yaml"
    print(
        f"#   sed 's#http://minio.minio:9000#{state['endpoint']}#' {example} | kubectl apply -f -"
    )
    print("#   kubectl -n nas get nasx,nast -w", flush=True)
    os.execve(sys.executable, [sys.executable, "-m", "kinase_operator"], environment)


if __name__ == "__main__":
    main()

"""The commands of docs/operating/backup.md: a search whose experiment is gone goes on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import system
from tests.cluster.helpers import wait_for
from tests.cluster.lab import binaries
from tests.cluster.system import Scene
from tests.cluster.test_lifecycle import IN_A_ROW, gone, on_this_machine, searched, slow
from tests.docs.blocks import blocks

PAGE = "docs/operating/backup.md"
AWS = """\
aws() { # s3 cp --recursive FROM TO
  python - "$4" "$5" <<'END'
import os, sys
import boto3
(bucket, old), (_, new) = (place.removeprefix("s3://").split("/", 1) for place in sys.argv[1:])
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], region_name="us-east-1")
for item in s3.list_objects_v2(Bucket=bucket, Prefix=old)["Contents"]:
    key = item["Key"]
    source = {"Bucket": bucket, "Key": key}
    s3.copy_object(Bucket=bucket, Key=new + key.removeprefix(old), CopySource=source)
END
}
"""
"""What the page's `aws s3 cp --recursive` does, for a machine without it."""


def run(scene: Scene, folder: Path, script: str, **variables: str) -> None:
    """Run commands of the page in this test's namespace and bucket."""
    for shown, real in (
        ("s3://nas/experiments/nas/", f"s3://{scene.bucket.name}/nas/{scene.namespace}/"),
        ("-n nas", f"-n {scene.namespace}"),
        ("nasx digits", "nasx toy"),
    ):
        script = script.replace(shown, real)
    kubectl = binaries.get("kubectl")
    python = Path(os.environ.get("VIRTUAL_ENV", ".venv")).resolve() / "bin"
    environment = {
        **os.environ,
        "PATH": f"{kubectl.parent}:{python}:{os.environ['PATH']}",
        "KUBECONFIG": str(scene.cluster.kubeconfig),
        "ENDPOINT": scene.bucket.endpoint,
        **variables,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", AWS + script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_search_goes_on_whose_experiment_is_gone(
    scene: Scene, tmp_path: Path, s3_server: Any
) -> None:
    backup, restore = (b.text for b in blocks(PAGE, "bash") if b.run_by)
    body = system.experiment(scene.namespace, scene.bucket, **IN_A_ROW, trialTemplate=slow(1.0))
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(body))
    first = system.create(scene.cluster, body)
    scene.begins(2)
    run(scene, tmp_path, backup)
    kept = yaml.safe_load((tmp_path / "experiments.yaml").read_text())
    uids = {item["metadata"]["uid"] for item in kept["items"]}
    assert first["metadata"]["uid"] in uids

    scene.cluster.api.delete(scene.path(name="toy"))
    wait_for(lambda: gone(scene), 60, message="nothing is left")
    keys = {
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
    }
    run(scene, tmp_path, restore, OLD=first["metadata"]["uid"], **keys)

    item = scene.finished()
    assert item["metadata"]["uid"] != first["metadata"]["uid"]
    assert searched(scene) == on_this_machine(item)
    # 6 trials of 2 epochs and a finalist of 3; the epoch that the deletion cut off began twice
    assert item["status"]["cost"]["epochs"] in (6 * 2 + 3, 6 * 2 + 3 + 1)

"""The commands of docs/operating, run as they stand there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import system
from tests.cluster.helpers import COLLECTED, wait_for
from tests.cluster.lab import binaries
from tests.cluster.system import Scene
from tests.cluster.test_lifecycle import IN_A_ROW, gone, on_this_machine, searched
from tests.docs.blocks import blocks

HERE = "tests/cluster/test_operating.py"
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


def commands(page: str, test: str) -> list[str]:
    """Blocks of a page that say that this test runs them."""
    return [
        b.text for b in blocks(f"docs/operating/{page}.md", "bash") if b.run_by == f"{HERE}::{test}"
    ]


def run(scene: Scene, folder: Path, script: str, **variables: str) -> None:
    """Run commands of the page in this test's namespace and bucket."""
    for shown, real in (
        ("s3://nas/experiments/nas/", f"s3://{scene.bucket.name}/nas/{scene.namespace}/"),
        ("-n nas", f"-n {scene.namespace}"),
        ("digits-controller", "toy-controller"),
        ("nasx digits", "nasx toy"),
        ("nasx/digits", "nasx/toy"),
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


def test_a_search_that_runs(scene: Scene, tmp_path: Path) -> None:
    name = "test_a_search_that_runs"
    scene.hold(1)
    scene.create(**IN_A_ROW)
    scene.begins(1)
    before = scene.controller()
    [delete, suspend] = commands("upgrade", name)
    run(scene, tmp_path, delete)

    def another() -> bool:
        return scene.controller() != before

    wait_for(another, 60, message="another controller runs the search")
    for page in ("retention", "quotas"):
        [change] = commands(page, name)
        run(scene, tmp_path, change)
    spec = scene.get()["spec"]
    assert (spec["retention"]["trials"], spec["budget"]["trials"]) == ("1h", 800)
    run(scene, tmp_path, suspend)
    assert scene.get()["status"]["phase"] == "Suspended"
    told = scene.journal(kind="told")
    assert len({entry.trial for entry in told}) == len(told) > 0


@pytest.mark.slow
def test_a_search_goes_on_whose_experiment_is_gone(
    scene: Scene, tmp_path: Path, s3_server: Any
) -> None:
    [backup, restore] = commands("backup", "test_a_search_goes_on_whose_experiment_is_gone")
    body = system.experiment(scene.namespace, scene.bucket, **IN_A_ROW)
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(body))
    scene.hold(2)
    first = system.create(scene.cluster, body)
    scene.begins(2)
    run(scene, tmp_path, backup)
    kept = yaml.safe_load((tmp_path / "experiments.yaml").read_text())
    uids = {item["metadata"]["uid"] for item in kept["items"]}
    assert first["metadata"]["uid"] in uids

    scene.cluster.api.delete(scene.path(name="toy"))
    wait_for(lambda: gone(scene), COLLECTED, message="nothing is left")
    scene.let()
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

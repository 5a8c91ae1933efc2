"""A trainer of another image, a shell script that knows docs/trial-contract.md alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kinase.api.trial import TaskJob
from tests.trainer.contract import TASK, TrainerContract, trial_job
from tests.trainer.pod import Pod

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "contract_trainer.sh"
PAGE = (ROOT / "docs" / "trial-contract.md").read_text()


def _curl() -> tuple[int, ...]:
    if not shutil.which("curl"):
        return ()
    said = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout
    return tuple(int(part) for part in said.split()[1].split("."))


@pytest.mark.skipif(_curl() < (7, 88), reason="needs curl 7.88 or later, which signs for S3")
class TestScript(TrainerContract):
    command = ("/bin/sh", str(SCRIPT))
    slow = {"EPOCH_SECONDS": "0.5"}
    quick = {"EPOCH_SECONDS": "0.01"}

    def test_data_that_is_not_there_ends_with_2(self, tmp_path: Path) -> None:
        pod = Pod(tmp_path, f"file://{tmp_path}/store", self.quick, self.command)
        task = {"dataset": "npz", "path": "/nowhere/d.npz"}
        for own in (
            trial_job(task=task),
            TaskJob.model_validate({**TASK.model_dump(by_alias=True), "task": task}),
        ):
            assert pod.run(own) == 2
            assert pod.termination.message == "task.path /nowhere/d.npz is not there"

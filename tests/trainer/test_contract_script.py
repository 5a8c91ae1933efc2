"""A trainer of another image, a shell script that knows docs/trial-contract.md alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kinase.api import trial as api
from kinase.api.slice import Slice
from kinase.api.trial import TaskInfo, TaskJob, Termination
from kinase.space import load_graph
from kinase_trainer import ending, process, push
from tests import pod_trainer
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
            assert pod.termination.message == "task.path /nowhere/d.npz does not exist"


# -- the page --------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_shows_the_script() -> None:
    assert blocks("sh") == [SCRIPT.read_text()]


def test_the_page_s_examples_are_of_their_models() -> None:
    task, info, root, inherited, batch, point, rests, termination = (
        json.loads(b) for b in blocks("jsonc")
    )
    TaskJob.model_validate(task)
    graph = load_graph(api.Root.model_validate(root.pop("root")).graph)
    assert root == {}
    assert graph.shapes()[graph.output] == (info["outputs"],)
    TaskInfo.model_validate(info)
    Slice.model_validate(batch["slice"])
    for other in batch["also"]:
        api.Candidate.model_validate(other)
    assert set(batch) <= {field.alias or name for name, field in api.TrialJob.model_fields.items()}
    result = api.TrialResult.model_fields
    assert set(inherited) == {result[name].alias or name for name in ("inherited", "kept_bytes")}
    api.Inherited.model_validate(inherited["inherited"])
    assert rests == {**point, "rests": True}
    assert point.pop("attempt") == 1
    api.Point.model_validate(point)
    Termination.model_validate(termination)
    assert set(termination) == set(Termination.model_fields)


def test_the_page_s_numbers_are_the_code_s() -> None:
    for code in (
        api.INFEASIBLE_EXIT,
        api.BAD_INPUT_EXIT,
        api.UNAVAILABLE_EXIT,
        api.CHECKPOINT_GONE_EXIT,
        api.TERMINATED_EXIT,
    ):
        assert f"\n| {code} |" in PAGE
    assert api.TERMINATED_EXIT == ending.TERMINATED
    prose = " ".join(PAGE.split())
    assert f"default {process.PATIENCE:g}" in prose
    assert f"at most {ending.MOST_BYTES} bytes" in prose
    assert (push.TIMEOUT, push.PATIENCE) == (2, 3)
    assert "two seconds" in prose
    assert "three failures in a row" in prose


@pytest.mark.parametrize("source", [pod_trainer, process, push, ending], ids=lambda m: m.__name__)
def test_the_page_names_every_variable(source: object) -> None:
    text = Path(str(source.__file__)).read_text()  # type: ignore[attr-defined]
    used = set(re.findall(r"\bKINASE_[A-Z_]+[A-Z]\b", text))
    assert used
    assert used <= set(re.findall(r"`(KINASE_[A-Z_]+)`", PAGE))

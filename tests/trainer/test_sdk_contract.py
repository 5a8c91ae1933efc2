"""A trainer by `kinase_trainer.sdk` keeps the contract: killed, resumed, charged exactly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kinase.api.trial import Outcome
from kinase.store import Store
from tests.trainer.contract import PREFIX, TrainerContract, progress_of, result_of, trial_job
from tests.trainer.pod import Pod


class TestSdk(TrainerContract):
    command = (sys.executable, str(Path(__file__).parents[1] / "sdk_trainer.py"))
    slow = {"EPOCH_SECONDS": "0.3"}
    # what the sdk shares with our own trainer's process, whose tests have them
    test_an_outage_is_sat_out = None  # type: ignore[assignment]
    test_an_outage_without_end_ends_with_75 = None  # type: ignore[assignment]
    test_a_store_that_refuses_ends_with_2 = None  # type: ignore[assignment]
    test_an_api_server_s_spelling_is_read = None  # type: ignore[assignment]
    test_a_foreign_result_is_none = None  # type: ignore[assignment]

    @pytest.fixture
    def pod(self, tmp_path: Path) -> Pod:
        """A folder's: the store is that of our own trainer, whose tests have S3's."""
        return Pod(tmp_path, f"file://{tmp_path}/store", self.quick, self.command)

    def test_a_trial_leaves_three_objects(self, pod: Pod, store: Store) -> None:
        for keep in (False, True):
            assert pod.run(trial_job(keepCheckpoint=keep)) == 0, pod.said
            found, spent = result_of(store), progress_of(store)
            assert (found.trial, found.attempt, found.outcome) == (7, 1, Outcome.SUCCEEDED)
            assert found.curve[-1].metrics == found.metrics
            assert (found.cost.epochs, found.cost.samples) == (3, 3000)
            assert (spent.epochs_begun, spent.epochs_done) == (3, 2)
            assert (pod.termination.value, pod.termination.epochs) == (
                found.metrics["val_accuracy"],
                3,
            )
            kept = {f"{PREFIX}/{name}" for name in ("progress.json", "result.json")}
            last = {f"{PREFIX}/checkpoint/last"} if keep else set()
            assert set(store.list()) == kept | last
            for key in kept:
                store.delete(key)

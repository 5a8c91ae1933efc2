"""Several candidates of a supernet in one job: each as if it were alone, and read once."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kinase.api.trial import Candidate, Outcome, TrialJob, TrialResult
from kinase.store.file import FileStore
from kinase.store.memory import MemoryStore
from kinase_trainer import trial, weights
from kinase_trainer.ending import Ending, Terminator
from kinase_trainer.errors import CorruptModel
from kinase_trainer.process import main
from kinase_trainer.supernet.stored import Opened
from kinase_trainer.weights import Reader
from tests.trainer.test_supernet_trial import SPACE, scoring, training
from tests.trainer.test_weights import KEY, Recorder, digest

ARCHITECTURES = [SPACE.sample(np.random.default_rng(seed)) for seed in range(3)]


def batch(**changes: Any) -> TrialJob:
    """Trials 1 to 3."""
    others = (
        Candidate(trial=number, architecture=found, seed=0, prefix=f"trials/{number:05d}")
        for number, found in enumerate(ARCHITECTURES[1:], 2)
    )
    return scoring(architecture=ARCHITECTURES[0], also=tuple(others), **changes)


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    store = MemoryStore()
    trial.run(training("Uniform"), store)
    return store


@pytest.fixture
def folder(
    tmp_path: Path, supernet: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    for name in ("supernet.json", "supernet.safetensors"):
        FileStore(tmp_path).put(f"trials/00000/{name}", supernet.get(f"trials/00000/{name}"))
    monkeypatch.setenv("KINASE_STORE", f"file://{tmp_path}")
    monkeypatch.setenv("KINASE_TERMINATION_LOG", str(tmp_path / "said"))
    monkeypatch.setenv("KINASE_METRIC", "val_accuracy")
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def score(folder: Path, job: TrialJob, terminator: Terminator | None = None) -> int:
    path = folder / "job.json"
    path.write_text(job.model_dump_json(by_alias=True, exclude_none=True))
    return main(["--job", str(path)], terminator)


def results(folder: Path) -> dict[int, TrialResult]:
    found = {}
    for path in sorted(folder.glob("trials/*/result.json")):
        result = TrialResult.model_validate_json(path.read_text())
        found[result.trial] = result
    return found


def test_each_candidate_is_scored_as_if_it_were_alone(folder: Path, supernet: MemoryStore) -> None:
    assert score(folder, batch()) == 0
    found = results(folder)
    assert list(found) == [1, 2, 3]
    for member in batch().members:
        alone = trial.run(member, supernet)
        assert found[member.trial].metrics == alone.metrics
        assert found[member.trial].attempt == member.attempt
        assert (folder / member.prefix / "progress.json").exists()
    said = json.loads((folder / "said").read_text())
    assert said["message"] == "3 candidates scored"
    assert said["value"] == found[1].metrics["val_accuracy"]


def test_the_supernet_is_read_once(folder: Path) -> None:
    score(folder, batch())
    size = sum(path.stat().st_size for path in folder.glob("trials/00000/*"))
    read = [result.facts["bytesRead"] for result in results(folder).values()]
    assert read[0] >= size
    assert read[1:] == [0, 0], "nor the card"


def test_one_that_cannot_be_built_does_not_end_the_others(folder: Path) -> None:
    job = batch()
    broken = job.also[0].model_copy(update={"architecture": {"cell": "none"}})
    assert score(folder, job.model_copy(update={"also": (broken, job.also[1])})) == 0
    found = results(folder)
    assert [found[n].outcome for n in (1, 2, 3)] == [
        Outcome.STOPPED,
        Outcome.INFEASIBLE,
        Outcome.STOPPED,
    ]
    said = json.loads((folder / "said").read_text())
    assert said["message"] == "3 candidates scored, 1 of them infeasible"


def test_what_has_a_result_is_not_scored_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    run = trial.run

    def counting(job: TrialJob, *rest: Any, **options: Any) -> TrialResult:
        if ran.count(job.trial) == 0 and job.trial == 3:
            ran.append(3)
            raise CorruptModel("of the third")
        ran.append(job.trial)
        return run(job, *rest, **options)

    monkeypatch.setattr(trial, "run", counting)
    assert score(folder, batch()) == 2
    assert list(results(folder)) == [1, 2]
    assert score(folder, batch()) == 0
    assert ran == [1, 2, 3, 3]


def test_sigterm_ends_it_after_the_present_candidate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminator = Terminator(Ending(os.environ))
    run = trial.run

    def interrupted(job: TrialJob, *rest: Any, **options: Any) -> TrialResult:
        if job.trial == 2:
            terminator.handle(signal.SIGTERM, None)
        return run(job, *rest, **options)

    monkeypatch.setattr(trial, "run", interrupted)
    assert score(folder, batch(), terminator) == 143
    assert list(results(folder)) == [1, 2]
    said = json.loads((folder / "said").read_text())
    assert said["message"] == "ended by SIGTERM; candidates scored: 2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"until": None}, "it requires slice and until 0"),
        ({"slice": None}, "it requires slice and until 0"),
        ({"trial": 2}, "also: trial 2 is there twice"),
    ],
)
def test_also_is_for_different_candidates_that_are_scored(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        batch(**changes)


def test_a_job_of_one_does_not_mention_others() -> None:
    first, second, _ = batch().members
    assert "also" not in json.loads(first.model_dump_json())
    assert first.with_also(batch().members[1:]) == batch()
    assert second.prefix == "trials/00002"
    assert second.slice == first.slice


@pytest.mark.parametrize("gap", [0, 8, 1 << 20])
def test_a_reader_reads_no_byte_twice(monkeypatch: pytest.MonkeyPatch, gap: int) -> None:
    monkeypatch.setattr(weights, "FIRST", 64)
    monkeypatch.setattr(weights, "GAP", gap)
    raw, stored, right = sample()
    store = Recorder(raw)
    reader = Reader(KEY, digest(raw), stored)
    rng = np.random.default_rng(1)
    for _ in range(30):
        names = rng.choice(sorted(stored), size=3, replace=False).tolist()
        found = reader.read(store, names)
        assert {name: each.tolist() for name, each in found.items()} == {
            name: right[name].tolist() for name in names
        }
    if gap == 0:
        assert sum(end - start for start, end in store.ranges) <= len(raw)


def test_a_reader_of_a_large_file_keeps_its_header_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FIRST", 64)
    monkeypatch.setattr(weights, "MOST_KEPT", 64)
    raw, stored, right = sample()
    store = Recorder(raw)
    reader = Reader(KEY, digest(raw), stored)
    name = sorted(stored)[-1]
    for _ in range(2):
        assert reader.read(store, [name])[name].tolist() == right[name].tolist()
    assert store.ranges[-1] == store.ranges[-2], "the tensor, and not the header"


def test_damage_is_found_in_every_read() -> None:
    raw, stored, _ = sample()
    name = sorted(stored)[-1]
    reader = Reader(KEY, digest(raw), stored)
    for _ in range(2):
        with pytest.raises(CorruptModel, match="other than its card says"):
            reader.read(Recorder(raw[:-4] + bytes([255] * 4)), [name])
    assert reader.read(Recorder(raw), [name])[name].numel(), "it is read again after an error"


def sample() -> tuple[bytes, dict[str, weights.Stored], dict[str, Any]]:
    import torch
    from safetensors.torch import save

    generator = torch.Generator().manual_seed(0)
    tensors = {f"t{n:02d}": torch.randn(1 + n % 5, generator=generator) for n in range(20)}
    raw = save(tensors)
    return raw, weights.describe(raw), tensors


def test_another_supernet_is_another_file(supernet: MemoryStore) -> None:
    opened = Opened()
    first = trial.run(scoring(), supernet, opened=opened)
    assert first.facts["bytesRead"] > 0
    elsewhere = scoring(slice={"prefix": "trials/00009", "recalibrate": 0})
    with pytest.raises(CorruptModel, match="is missing: the supernet was deleted"):
        trial.run(elsewhere, supernet, opened=opened)

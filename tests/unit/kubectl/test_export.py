"""What `kinase export` says before it reads the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kinase import registry
from kinase.cli_options import Access, Target
from kinase_kubectl import export
from kinase_kubectl.problem import Problem
from kinase_kubectl.views import Experiment
from tests.unit.kubectl.samples import condition, experiment


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """The experiment that the cluster holds."""
    found: list[Experiment] = []

    class Cluster:
        @classmethod
        @contextlib.asynccontextmanager
        async def open(cls, target: Target) -> AsyncIterator[Cluster]:
            yield cls()

        async def experiment(self, name: str) -> Experiment:
            return found[-1]

    monkeypatch.setattr(export, "Cluster", Cluster)
    return found


def exported(**more: Any) -> None:
    given = {"out": Path("out"), "formats": (), "trial": None, "say": print, **more}
    export.export(Target(), "digits", Access(), **given)


def test_there_is_no_network(held: list[Experiment]) -> None:
    held.append(experiment(phase="Searching"))
    with pytest.raises(Problem, match="has no trained network: it is Searching still"):
        exported()
    held.append(experiment(conditions=[condition("Failed", "True", "NoNetwork")]))
    with pytest.raises(Problem, match="has no trained network: it ended without one"):
        exported()


def test_there_is_no_torch(held: list[Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    held.append(experiment(model="s3://nas/x/final"))

    def load(group: str, name: str) -> Any:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(registry, "load", load)
    with pytest.raises(
        Problem, match=r"'torch'; install it with: pip install 'kinase-nas\[trainer"
    ):
        exported()


def test_where_a_network_lies(held: list[Experiment]) -> None:
    held.append(experiment(phase="Searching"))
    place = asyncio.run(export._find(Target(), "digits", Access(), trial=7))
    assert place.uri == "s3://nas/experiments/nas/uid-of-digits"

"""Prometheus and its tool, and the cluster that they look at."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.cluster.lab import binaries


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing first: in a fixture it would count as the first test's time."""
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    wanted = [
        name
        for fixture, name in (("program", "prometheus"), ("promtool", "promtool"))
        if fixture in fixtures
    ]
    if not session.config.option.collectonly:
        with contextlib.suppress(binaries.Unavailable):  # the fixture tells why
            binaries.build(wanted)


def _get(name: str) -> Path:
    try:
        return binaries.get(name)
    except binaries.Unavailable as problem:
        pytest.skip(f"no {name}: {problem}")


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' tool."""
    return _get("promtool")


@pytest.fixture(scope="session")
def program() -> Path:
    """Prometheus."""
    return _get("prometheus")

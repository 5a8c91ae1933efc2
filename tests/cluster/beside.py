"""Tests on the cluster that wait most of the time, and so run beside one another.

Each has a namespace and a bucket of its own. What it does to nodes, images or the operator itself
would disturb the others: a test that does so asks for the fixture `alone`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.cluster import system
from tests.cluster.fixtures import a_bucket, a_namespace
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Node
from tests.cluster.lab.s3 import S3Server
from tests.cluster.system import Scene

Test = Callable[[Scene, Path], None]

AT_ONCE = 3
"""A machine of two cores has time for so many, beside another process of tests."""


class Others:
    """The tests of a module that run beside one another."""

    def __init__(self, pool: ThreadPoolExecutor, tests: Mapping[str, Callable[[], None]]) -> None:
        self._pool, self._tests = pool, tests
        self._futures: dict[str, Future[None]] = {}

    def end(self, name: str) -> None:
        """Wait for the end of one; all begin when the first is asked for."""
        if not self._futures:
            self._futures = {name: self._pool.submit(test) for name, test in self._tests.items()}
        self._futures[name].result()

    def rest(self) -> None:
        """Wait until none is under way."""
        wait(self._futures.values())


def beside(test: Test) -> Callable[[Others], None]:
    """A test that runs beside others of its module. It gets a scene and a folder of its own."""
    name = test.__name__

    def ended(others: Others) -> None:
        others.end(name)

    ended.__name__ = name
    ended.beside = test  # type: ignore[attr-defined]
    return ended


@pytest.fixture(scope="module")
def others(
    request: pytest.FixtureRequest,
    kinase: system.Operator,
    cluster: Cluster,
    node: Node,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Others]:
    """The module's tests that run beside one another, those that were asked for."""

    def begins(test: Test) -> Callable[[], None]:
        folder = tmp_path_factory.mktemp("beside")

        def run() -> None:
            with a_namespace(cluster) as namespace:
                bucket = a_bucket(cluster, namespace, s3_server)
                test(Scene(cluster, node, kinase, namespace, bucket), folder)

        return run

    wanted = {item.name for item in request.session.items}
    found = {
        name: begins(member.beside)
        for name, member in vars(request.module).items()
        if name in wanted and hasattr(member, "beside")
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield Others(pool, found)


@pytest.fixture
def alone(others: Others) -> None:
    """No test of the module runs beside this one."""
    others.rest()

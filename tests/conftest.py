"""What all tests share: cluster, S3 server, and no silent skip where CI is set."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.cluster.beside import alone, others
from tests.cluster.fixtures import cluster, kinase, namespace, node, s3_bucket, scene
from tests.cluster.lab import binaries
from tests.cluster.lab.s3 import S3Server, VersityGW

__all__ = ["alone", "cluster", "kinase", "namespace", "node", "others", "s3_bucket", "scene"]
"""Fixtures of one cluster for all folders of tests."""

os.environ["OMP_NUM_THREADS"] = "1"
"""Tiny networks are slower on several threads, more so beside other tests, and sums then depend on
their number. It is read when torch is first imported, here and in the processes of tests."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
"""Images of Python set it. Without bytecode every process that a test starts compiles all that it
imports again, torch's thousand modules above all."""

os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="kinase-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
"""The index of runs, which is the user's, is not for those of tests."""


def _fail_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"in CI nothing may be skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_skip(report)
    return report


class _Scheduling(LoadScopeScheduling):
    """What runs side by side (`-n 2`): all that needs the cluster in one process, for they share
    it, and any other file as a whole in another."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "cluster" if file.startswith(("tests/cluster/", "tests/watch/")) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # by number of tests, the longest would come last
    return _Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Within a file, tests that run alone come when those beside one another have ended."""
    files = {path: number for number, path in enumerate(dict.fromkeys(i.path for i in items))}
    items.sort(key=lambda i: (files[i.path], "alone" in getattr(i, "fixturenames", ())))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing first: in a fixture it would count as the first test's time."""
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    wanted: list[str] = []
    if "s3_server" in fixtures and not os.environ.get("KINASE_TEST_S3_ENDPOINT"):
        wanted.append("versitygw")
    if "cluster" in fixtures and not os.environ.get("KINASE_TEST_KUBECONFIG"):
        wanted += binaries.CONTROL_PLANE
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.option.collectonly:
        return
    with contextlib.suppress(binaries.Unavailable):  # the fixture tells why
        binaries.build(wanted, terminal.write_line if terminal else print)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server at KINASE_TEST_S3_ENDPOINT (with AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY), or else a versitygw of our own.
    """
    if endpoint := os.environ.get("KINASE_TEST_S3_ENDPOINT"):
        key, secret = (
            os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        )
        assert key, "KINASE_TEST_S3_ENDPOINT needs AWS_ACCESS_KEY_ID"
        assert secret, "KINASE_TEST_S3_ENDPOINT needs AWS_SECRET_ACCESS_KEY"
        yield S3Server(endpoint, key, secret)
        return
    server = VersityGW(tmp_path_factory.mktemp("versitygw"))
    try:
        server.start()
    except binaries.Unavailable as problem:
        pytest.skip(f"no S3 server: {problem}; or set KINASE_TEST_S3_ENDPOINT")
    try:
        yield S3Server(server.endpoint, server.access_key, server.secret_key)
    finally:
        server.stop()

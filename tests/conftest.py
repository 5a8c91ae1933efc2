"""What all tests share: the S3 server, and no silent skip where CI is set."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


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


@dataclass(frozen=True)
class S3Server:
    """A server to test with, and credentials that may make buckets."""

    endpoint: str
    access_key: str
    secret_key: str


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
    program = _versitygw()
    folder = tmp_path_factory.mktemp("versitygw")
    data = folder / "data"
    data.mkdir()
    with (folder / "log").open("wb") as log:
        for attempt in range(3):  # another process may take the port between our look and its use
            port = _free_port()
            process = subprocess.Popen(
                [program, "--port", f"127.0.0.1:{port}", "posix", str(data)],
                env={**os.environ, "ROOT_ACCESS_KEY": "k", "ROOT_SECRET_KEY": "s"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            if _answers(process, port):
                break
            process.kill()
            process.wait()
            said = (folder / "log").read_text(errors="replace")[-2000:]
            assert attempt < 2, f"{program} does not answer on port {port}: {said}"
        try:
            yield S3Server(f"http://127.0.0.1:{port}", "k", "s")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _versitygw() -> str:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kinase" / "bin"
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for path in (None, assets, str(cache)):
        if (path is None or path) and (found := shutil.which("versitygw", path=path)):
            return found
    if not shutil.which("go"):
        pytest.skip(
            "no S3 server: set KINASE_TEST_S3_ENDPOINT, put versitygw on the PATH, or install Go "
            "to build it"
        )
    cache.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        ["go", "install", VERSITYGW],
        env={**os.environ, "GOBIN": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if built.returncode:
        pytest.skip(f"no S3 server: go install {VERSITYGW} failed: {built.stdout[-1000:]}")
    return str(cache / "versitygw")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.05)
            return process.poll() is None  # else the port is another's
    return False

"""What the test cluster is made of: where its programs come from, and that they end."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import IO, Any, cast

import pytest

from tests.cluster.helpers import wait_for
from tests.cluster.lab import binaries, oci, real_node
from tests.cluster.lab.kubelet.inputs import expand, quantity, rewriter
from tests.cluster.lab.node import REPOSITORY


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH and a cache of the test's own, both empty."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path


def program(path: Path, script: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_without_go_it_is_said_what_would_help(programs: Path) -> None:
    assert binaries.missing() == list(binaries.DEFAULT)
    with pytest.raises(binaries.Unavailable, match=r"etcd 3\.\d+\.\d+ .*KUBEBUILDER_ASSETS.* Go"):
        binaries.get("etcd")


def test_a_folder_of_the_users_comes_first(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = binaries._part("etcd").version
    cached = program(programs / "cache" / "kinase" / "bin" / f"etcd-{version}" / "etcd")
    assert binaries.find("etcd") == cached
    given = program(programs / "given" / "etcd")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(given.parent))
    assert binaries.find("etcd") == given


def test_an_installed_tool_will_do_if_it_is_not_too_old(programs: Path) -> None:
    helm = program(programs / "path" / "helm", 'echo "v3.14.2+gc309b6f"; test "$1" = version')
    assert binaries.find("helm") == helm
    program(helm, "echo v3.9.4+gdbc6d8e")
    assert binaries.find("helm") is None
    promtool = program(programs / "path" / "promtool", "echo promtool, version 2.42.0, x 3.14")
    assert binaries.find("promtool") is None
    program(promtool, "echo promtool, version 3.0.1")
    assert binaries.find("promtool") == promtool
    program(programs / "path" / "kubelet", "echo Kubernetes v1.99.0")
    assert binaries.find("kubelet") is None  # what belongs together is built together


def test_programs_are_told_their_version() -> None:
    assert "version.version=v4." in binaries._part("helm").ldflags
    prometheus = binaries._part("promtool")
    major, minor = prometheus.version.split(".")[:2]
    assert (major, int(minor) > 300) == ("0", True)  # its module counts 3.16 as 0.316
    assert f"version.Version=3.{int(minor) - 300}." in prometheus.ldflags


def test_what_is_missing_is_built_once(programs: Path) -> None:
    go = program(
        programs / "path" / "go",
        f"""
        echo "$@" >> {programs}/built
        while [ "$1" != -o ]; do shift; done
        echo x > "$2"; /bin/chmod +x "$2"
        """,
    )
    said: list[str] = []
    assert binaries.get("kube-apiserver", said.append).read_text() == "x\n"
    binaries.get("kube-apiserver", said.append)
    (line,) = (programs / "built").read_text().splitlines()
    assert f"gitVersion=v{binaries.KUBERNETES}." in line
    assert line.endswith("k8s.io/kubernetes/cmd/kube-apiserver")
    assert len(said) == 1
    program(go, "echo go: downloading x; echo some error; exit 1")
    with pytest.raises(binaries.Unavailable, match=r"could not be built: some error$"):
        binaries.get("etcd")


def test_versions(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("1.35", "1.36", "1.37"):
        monkeypatch.setattr(binaries, "KUBERNETES", version)
        assert binaries._part("kubelet").version.startswith(f"{version}.")
    monkeypatch.setattr(binaries, "KUBERNETES", "1.2")
    with pytest.raises(binaries.Unavailable, match=r"there are 1\.35, 1\.36, 1\.37"):
        binaries.get("kubelet")


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    code = """
import pathlib, sys, time
from tests.cluster.lab.processes import Child
child = Child(["sleep", "1000"], pathlib.Path(sys.argv[1]))
print(child.process.pid, flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not alive(child), message="the child has gone")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_variables_in_a_command() -> None:
    variables = {"A": "1", "B.C": "2"}
    assert expand("$(A) $(B.C) $(D) $$(A) $$ $A", variables) == "1 2 $(D) $(A) $ $A"


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        ("/data", "/pod/v"),
        ("/data/", "/pod/v/"),
        ("--folder=/data/x", "--folder=/pod/v/x"),
        ("cat /data/x>/data.txt", "cat /pod/v/x>/data.txt"),
        ("file:///data/x", "file:///pod/v/x"),
        ("/database /my/data http://host/data", "/database /my/data http://host/data"),
        ("/data/inner/x", "/pod/w/x"),
        ("http://0.0.0.0:80", "http://127.0.0.9:80"),
        ("10.0.0.0.0", "10.0.0.0.0"),
    ],
)
def test_paths_of_a_container(text: str, rewritten: str) -> None:
    rewrite = rewriter({"/data": "/pod/v", "/data/inner/": "/pod/w"}, "127.0.0.9")
    assert rewrite(text) == rewritten


def test_quantities() -> None:
    values = {"500m": 0.5, "2Gi": 2**31, "3k": 3000, "1e3": 1000, "7": 7}
    assert {text: float(quantity(text)) for text in values} == values


def test_what_lies_in_the_checkout_is_the_machines_own() -> None:
    rewrite = rewriter({"/tmp": "/pod/v"}, "127.0.0.9", "/tmp/ci/kinase")
    assert rewrite("sh /tmp/ci/kinase/tests/a.sh /tmp/x") == "sh /tmp/ci/kinase/tests/a.sh /pod/v/x"
    assert rewrite("/tmp/ci/kinase-2/a /tmp") == "/pod/v/ci/kinase-2/a /pod/v"
    assert rewriter({"/tmp": "/pod/v"}, "127.0.0.9", "/home/me/kinase")("/tmp/ci") == "/pod/v/ci"


def test_where_there_cannot_be_a_real_node_it_is_said_why(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in real_node.unavailable()
    with pytest.raises(binaries.Unavailable, match="needs root"):
        real_node.Network().start()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    said = real_node.unavailable()
    assert "containerd, ctr, runc" in said
    assert "(Debian: containerd iproute2 iptables" in said
    monkeypatch.setattr(real_node, "PROGRAMS", {})
    monkeypatch.setattr(real_node, "PLUGINS", (str(programs),))
    assert "containernetworking-plugins" in real_node.unavailable()
    monkeypatch.setattr(real_node, "_plugins", lambda: "/cni")
    monkeypatch.setattr(real_node, "CGROUPS", programs)
    assert "needs cgroups" in real_node.unavailable()


def test_an_image_of_one_program(tmp_path: Path) -> None:
    path = oci.archive(tmp_path / "image.tar", "localhost/one:1", program(tmp_path / "one"))
    with tarfile.open(path) as archive:
        blobs = {
            member.name: cast(IO[bytes], archive.extractfile(member)).read() for member in archive
        }

    def blob(described: dict[str, Any]) -> bytes:
        content = blobs[f"blobs/{described['digest'].replace(':', '/')}"]
        assert len(content) == described["size"]
        assert described["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        return content

    (listed,) = json.loads(blobs["index.json"])["manifests"]
    assert listed["annotations"] == {"io.containerd.image.name": "localhost/one:1"}
    manifest = json.loads(blob(listed))
    config = json.loads(blob(manifest["config"]))
    assert config["config"] == {"Entrypoint": ["/one"], "User": "65535:65535"}
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    with tarfile.open(fileobj=io.BytesIO(blob(manifest["layers"][0]))) as layer:
        (file,) = layer
        assert (file.name, file.mode) == ("one", 0o755)

"""The images as they are built: what they hold, and that they run as our pods run them.

The trainer's is built over a base that has torch without what only GPUs need (cpu_torch.py); what
lies above that base is what its users get.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kinase_operator.job_specs import USER
from tests.images import build
from tests.images.container import Root, unpacked

# the first build takes minutes
pytestmark = pytest.mark.timeout(1500)

TOOLS = {"pip", "pip3", "uv", "hatchling"}
ABSENT = {
    "operator": {"torch", "nvidia", "numpy", "boto3", "rich", "typer", "plotly"},
    "controller": {"torch", "nvidia", "onnx"},
    "trainer": {"kopf", "kubernetes", "plotly"},
}
STARTS = {
    "operator": "import kinase_operator.app, kinase_operator.__main__",
    "controller": "import kinase_controller.controller, kinase.report, kinase.cli",
    "trainer": "import kinase_trainer.process, kinase_trainer.trial",
}
MOST = 150_000_000
"""Bytes that the operator's layers may have above its base."""
COMPILED = """
import importlib.util, json, os, struct, sys
{imports}
missing = []
for module in list(sys.modules.values()):
    file, cached = getattr(module, "__file__", None), getattr(module, "__cached__", None)
    if file and cached and file.startswith("/opt/kinase") and file.endswith(".py"):
        header = open(cached, "rb").read(16) if os.path.exists(cached) else b""
        if header[8:12] != struct.pack("<I", int(os.stat(file).st_mtime)):
            missing.append(file)
print(json.dumps(missing))
"""


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> build.Say:
    """Prints past pytest's capture, for CI to state sizes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def tell(line: object) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)

    return tell


@pytest.fixture(scope="session", params=build.TARGETS)
def image(request: pytest.FixtureRequest, say: build.Say) -> build.Image:
    """An image of the Dockerfile; the trainer's is built over a base with torch."""
    try:
        return build.build(request.param, say)
    except build.Unavailable as problem:
        pytest.skip(f"no images: {problem}")


@pytest.fixture(scope="session")
def target(image: build.Image) -> str:
    """Which one it is."""
    return image.name.removeprefix("localhost/kinase-").partition(":")[0]


@pytest.fixture(scope="session")
def root(image: build.Image) -> Iterator[Root]:
    """Its file system."""
    try:
        with unpacked(image.name) as found:
            yield found
    except build.Unavailable as problem:
        pytest.skip(f"no containers: {problem}")


def only(*targets: str) -> pytest.MarkDecorator:
    """The test is about these images."""
    return pytest.mark.parametrize("image", targets, indirect=True)


def test_size(image: build.Image, target: str, say: build.Say) -> None:
    total = image.archive.stat().st_size
    say(f"\n{image.name}: {image.size / 1e6:.0f} MB above its base, {total / 1e6:.0f} MB in all")
    assert 10_000_000 < image.size < total
    if target == "operator":
        assert image.size < MOST


def test_files(image: build.Image, target: str) -> None:
    """Nothing that a user without rights could change or gain rights by, nothing left behind."""
    files = list(image.files())
    for file in files:
        known = file.name.startswith("opt") or file.name in ("etc/group", "etc/passwd")
        assert known or file.size == 0, file.name  # such as the builder's mount points
        assert (file.uid, file.gid) == (0, 0), file.name
        assert not file.mode & (stat.S_ISUID | stat.S_ISGID), file.name
        assert file.issym() or not file.mode & (stat.S_IWOTH | stat.S_IWGRP), file.name
    paths = [Path(file.name) for file in files]
    packages = {
        path.parts[5] for path in paths if len(path.parts) > 5 and path.parts[4] == "site-packages"
    }
    assert {"kinase", "kinase_kube", f"kinase_{target}", "pydantic", "yaml"} <= packages
    programs = {path.name for path in paths if path.parts[2:3] == ("bin",)}
    assert "python" in programs
    assert not (packages | programs) & TOOLS
    assert not packages & ABSENT[target]
    assert not any(".cache" in path.parts for path in paths)
    assert not any("tests" in path.parts for path in paths if path.parts[5:6] == ("kinase",))


def test_config(root: Root, target: str) -> None:
    config = root.config
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["python", "-m", f"kinase_{target}"]
    assert not config.get("Cmd")
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"Kinase {target}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    environment = dict(each.split("=", 1) for each in config["Env"])
    assert environment.get("NVIDIA_VISIBLE_DEVICES") == ("void" if target == "trainer" else None)


def test_the_root_is_closed_and_the_user_is_nobody(root: Root) -> None:
    program = (
        "import getpass, os, pathlib\n"
        "print(os.getuid(), os.getgid(), os.getpid(), getpass.getuser(), pathlib.Path.home())\n"
        "pathlib.Path('here').write_text('')\n"
        "for place in ('/here', '/opt/kinase/here', '/var/here'):\n"
        "    try: pathlib.Path(place).write_text('')\n"
        "    except OSError as problem: print(problem.strerror)\n"
    )
    done = root.run("python", "-c", program)
    assert done.stderr == ""
    assert done.stdout.split("\n")[:-1] == [
        f"{USER} {USER} 1 nonroot /tmp",
        *3 * ["Read-only file system"],
    ]
    # under a number that a cluster chose, too
    done = root.run("python", "-c", "import getpass; print(getpass.getuser())", user=1000650000)
    assert done.stdout == "nonroot\n", done.stderr


def test_what_a_start_loads_is_compiled(root: Root, target: str) -> None:
    """A root that is closed has no place for bytecode: without it every start would compile."""
    done = root.run("python", "-c", COMPILED.format(imports=STARTS[target]))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@only("operator")
def test_operator(root: Root) -> None:
    done = root.run("python", "-m", "kinase_operator", "--help")
    assert "usage: kinase_operator" in done.stdout, done.stderr
    done = root.run("python", "-m", "kinase_operator", "manifests", "--image", "here/operator:1")
    objects = {body["kind"]: body for body in yaml.safe_load_all(done.stdout)}
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "here/operator:1"
    with root.start() as container:  # without a cluster, which it goes on to look for
        assert "Config not found" in container.stderr.readline()
        # no shell stands between it and SIGTERM
        assert container.first() == ["python", "-m", "kinase_operator"]


@only("controller")
def test_controller(root: Root) -> None:
    done = root.run()
    assert (done.returncode, done.stderr) == (
        2,
        "kinase_controller: KINASE_NAMESPACE is not set; the operator sets it\n",
    )
    done = root.run("kinase", "--help")
    assert "Usage: kinase" in done.stdout, done.stderr


JOB = {
    "version": 1,
    "experiment": "digits",
    "trial": 0,
    "attempt": 1,
    "kind": "Search",
    "task": {"type": "Classification", "dataset": "digits"},
    "training": {"epochs": 1, "batchSize": 64},
    "space": {"type": "Chain"},
    "architecture": {"layers": [{"op": "conv", "width": 8, "kernel": 3, "stride": 1}]},
    "fidelity": {"epochs": 1, "dataFraction": 1.0, "resolution": None, "scale": {}},
    "seed": 1,
    "prefix": "trials/00000",
    "keepWeights": True,
    "keepCheckpoint": False,
    "test": False,
}
PLACE = {"KINASE_JOB": "/kinase/job.json", "KINASE_STORE": "file:///store"}


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of a job and of a store, as the user of the images finds them in a pod."""
    job, store = tmp_path / "job", tmp_path / "store"
    job.mkdir(mode=0o755)
    store.mkdir()
    os.chown(store, USER, USER)
    return job, store


def fidelity(epochs: int) -> dict[str, object]:
    """The job with so many epochs."""
    return {**JOB, "fidelity": {**JOB["fidelity"], "epochs": epochs}}  # type: ignore[dict-item]


@only("trainer")
def test_a_trial(root: Root, given: tuple[Path, Path]) -> None:
    job, store = given
    (job / "job.json").write_text(json.dumps(fidelity(1)))
    done = root.run(env=PLACE, mounts={job: "/kinase", store: "/store"})
    assert done.returncode == 0, done.stderr
    result = json.loads((store / "trials/00000/result.json").read_text())
    assert result["outcome"] == "Succeeded"
    assert result["cost"]["epochs"] == 1
    assert 0 < result["metrics"]["val_accuracy"] <= 1
    assert result["metrics"]["val_loss"] < 3  # drawing lots gives 2.3
    assert (store / "trials/00000/weights.safetensors").stat().st_size > 1000


@only("trainer")
def test_sigterm_reaches_a_trial(root: Root, given: tuple[Path, Path]) -> None:
    job, store = given
    (job / "job.json").write_text(json.dumps(fidelity(5000)))
    with root.start(env=PLACE, mounts={job: "/kinase", store: "/store"}) as container:
        progress = store / "trials/00000/progress.json"
        limit = time.monotonic() + 240
        while not progress.exists():
            assert container.poll() is None, container.communicate()[1]
            assert time.monotonic() < limit
            time.sleep(0.1)
        container.signal("TERM")
        container.communicate(timeout=60)
    assert container.returncode == 143
    assert list((store / "trials/00000/checkpoint").iterdir())

"""`kinase get`, `logs`, `report`, ... and `kubectl kinase` against a real API server."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from kinase.api import names
from kinase.cli import app
from kinase.store.memory import MemoryStore
from tests.cluster import system
from tests.cluster.fixtures import a_bucket, a_namespace
from tests.cluster.helpers import wait_for
from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import Cluster, ControlPlane
from tests.cluster.lab.node import Node
from tests.cluster.lab.processes import Child
from tests.cluster.lab.s3 import S3Server
from tests.cluster.system import Scene

BIN = Path(sys.executable).parent
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("AWS_", "KUBE", "KINASE_"))
}


@dataclass(frozen=True)
class Terminal:
    """Commands typed by a user of the namespace, with nothing but a kubeconfig."""

    scene: Scene
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def type(self, *words: str, **more: str) -> Result:
        """Run `kinase ...` to its end, in this process, for a new one takes seconds to start."""
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update({**ENVIRONMENT, **self.environment, **more})
        try:
            with contextlib.chdir(self.folder):
                done = CliRunner().invoke(app, list(words), prog_name="kinase")
        finally:
            os.environ.clear()
            os.environ.update(before)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    def says(self, *words: str, **more: str) -> str:
        """What a command prints that must succeed."""
        done = self.type(*words, **more)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def refuses(self, *words: str, code: int = 1, **more: str) -> str:
        """The one line of a command that must fail."""
        done = self.type(*words, **more)
        assert (done.exit_code, done.stdout) == (code, ""), done.stdout + done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("error: ").rstrip()

    def start(self, *words: str) -> Child:
        """Run `kinase ...` beside the test."""
        log = self.folder / f"{words[0]}-{time.monotonic_ns()}.log"
        return Child([str(BIN / "kinase"), *words], log, {**ENVIRONMENT, **self.environment})


@pytest.fixture(scope="module")
def scene(
    kinase: system.Operator, cluster: Cluster, node: Node, s3_server: S3Server
) -> Iterator[Scene]:
    """A namespace for all tests here."""
    with a_namespace(cluster) as namespace:
        yield Scene(cluster, node, kinase, namespace, a_bucket(cluster, namespace, s3_server))


@pytest.fixture(scope="module")
def user(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A terminal whose kubeconfig's context names the namespace."""
    folder = tmp_path_factory.mktemp("user")
    config = yaml.safe_load(scene.cluster.kubeconfig.read_text())
    context = config["contexts"][0]
    context["context"]["namespace"] = scene.namespace
    other = {"name": "elsewhere", "context": {**context["context"], "namespace": "default"}}
    config["contexts"].append(other)
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return Terminal(scene, folder, {"KUBECONFIG": str(path)})


@pytest.fixture(scope="module")
def going(scene: Scene) -> str:
    """An experiment that goes on for longer than the tests here."""
    env = [{"name": "FAKE_EPOCH_SECONDS", "value": "0.5"}]
    scene.create(
        "going",
        budget={"trials": 400, "parallelism": 2},
        trialTemplate={"image": system.FAKE, "env": env},
    )
    wait_for(lambda: scene.trial(3, "going")["status"]["node"], 60, message="a fourth trial")
    return "going"


@pytest.fixture(scope="module")
def ended(scene: Scene) -> str:
    """An experiment that has come to its end."""
    scene.create("ended", budget={"trials": 3, "parallelism": 2}, finalists={"count": 1})
    scene.finished("ended")
    return "ended"


# kinase get


def test_all_experiments_in_a_table(user: Terminal, going: str, ended: str) -> None:
    lines = user.says("get").splitlines()
    assert lines[0].split("   ")[0] == "NAME"
    rows = {line.split()[0]: line for line in lines[1:]}
    assert set(rows) >= {"going", "ended"}
    assert re.match(r"going +Searching +\d+/400 +\d+% +2 +0\.\d{4} +\d+ trials +~\d", rows["going"])
    assert re.match(r"ended +Succeeded +3/3 +100% +0 +0\.\d{4} +0 trials +\d+", rows["ended"])


def test_other_namespaces_and_other_contexts(user: Terminal, ended: str) -> None:
    namespace = user.scene.namespace
    assert re.search(rf"^{namespace} +ended ", user.says("get", "-A"), re.MULTILINE)
    done = user.type("get", "--context", "elsewhere")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "No experiments found in namespace default.\n"
    assert "ended" in user.says("get", "--context", "elsewhere", "-n", namespace)


def test_one_experiment_with_its_trials(user: Terminal, ended: str) -> None:
    text = user.says("get", "ended")
    facts = dict(re.findall(r"^([A-Z]\w+): +(.+)$", text, re.MULTILINE))
    status = user.scene.get("ended")["status"]
    assert facts["Phase"] == "Succeeded"
    assert facts["Winner"].startswith(f"val_accuracy {status['winner']['value']:.4f}, test_acc")
    assert facts["Architecture"].startswith("layers: ")
    assert facts["Report"] == status["report"]
    assert re.search(r"^ended-00000 +(Search|Control) +Succeeded +0\.\d{4} +2 +node-1 ", text, re.M)
    assert re.search(r"^ended-00003 +Final +Succeeded ", text, re.MULTILINE)
    wide = user.says("get", "nasx/ended", "-o", "wide")
    assert re.search(r"^NAME .* ATTEMPT +LASTED +POD +AGE +REASON +MESSAGE$", wide, re.MULTILINE)


def test_what_programs_read(user: Terminal, ended: str) -> None:
    item = json.loads(user.says("get", "ended", "-o", "json"))
    held = user.scene.get("ended")
    assert item["status"] == held["status"]
    assert "managedFields" not in item["metadata"]
    listed = yaml.safe_load(user.says("get", "-o", "yaml"))
    assert "ended" in {each["metadata"]["name"] for each in listed["items"]}
    names = user.says("get", "-o", "name").split()
    assert "nasexperiment.kinase.dev/ended" in names
    shown = user.says("get", "nasexperiment.kinase.dev/ended", "-o", "name")
    assert shown == "nasexperiment.kinase.dev/ended\n"


def test_what_is_not_there(user: Terminal, going: str, ended: str) -> None:
    said = user.refuses("get", "nothing")
    assert said.startswith(
        f"nasexperiments 'nothing' not found in namespace '{user.scene.namespace}'; there are: "
    )
    assert {"ended", "going"} <= set(re.findall(r"\w+", said))
    said = user.refuses("get", "nothing", "-n", "default")
    assert said.endswith("there are none; kinase get -A looks in all namespaces")
    said = user.refuses("get", "--context", "nowhere")
    assert re.fullmatch(r"no context 'nowhere' in .*; there are: elsewhere, lab", said)
    assert "'No_Name' is not a valid name" in user.refuses("get", "No_Name", code=2)
    assert "cannot be combined" in user.refuses("get", "ended", "-A", code=2)
    away = yaml.safe_load(Path(user.environment["KUBECONFIG"]).read_text())
    away["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = user.folder / "away"
    path.write_text(yaml.safe_dump(away))
    said = user.refuses("get", "--kubeconfig", str(path))
    assert said.startswith("the cluster at https://127.0.0.1:1 does not answer: ")


def test_what_is_wrong_is_said(user: Terminal) -> None:
    user.scene.create("poor", storage={"uri": "s3://no-such-bucket", "credentialsSecret": "gone"})
    try:
        message = user.scene.until("Ready", "False", "ConfigMissing", "poor")
        [row] = [line for line in user.says("get").splitlines() if line.startswith("poor ")]
        assert row.endswith("   ConfigMissing")
        said = user.says("get", "poor")
        assert re.search(r"^Trouble: +ConfigMissing for \d+s: ", said, re.MULTILINE)
        assert message in said
        said = user.refuses("logs", "poor")
        assert said == f"no controller of poor runs: ConfigMissing: {message}"
        said = user.refuses("report", "poor")
        assert said.startswith(
            "there is no report of poor yet: it has not started (ConfigMissing: "
        )
        said = user.refuses("wait", "poor", "--timeout", "1s", code=124)
        assert said.startswith("timed out after 1 s: poor is Pending; ConfigMissing for ")
    finally:
        user.scene.cluster.api.delete(user.scene.path(name="poor"))


def test_what_changes_is_shown_as_it_changes(user: Terminal, going: str) -> None:
    watching = user.start("get", going, "-w")
    try:
        wait_for(lambda: len(re.findall("Succeeded", watching.log.read_text())) > 2, 60)
        wait_for(lambda: len(re.findall("^going ", watching.log.read_text(), re.M)) > 2, 60)
    finally:
        watching.stop()
    lines = watching.log.read_text().splitlines()
    assert sum(line.startswith("NAME ") for line in lines) == 2  # of the experiment, of trials
    rows = [line for line in lines if line.startswith("going-")]
    begun = {line.split()[0] for line in rows if " Pending " in line}
    assert begun & {line.split()[0] for line in rows if " Succeeded " in line}


# kinase logs


def test_a_trials_log_by_the_trials_name(user: Terminal, going: str) -> None:
    text = user.says("logs", "going-00000")
    lines = [f"trial 0 attempt 1 epoch {epoch} begins" for epoch in (1, 2)]
    assert text.splitlines() == lines
    assert user.says("logs", "nast/going-00000", "--tail", "1").splitlines() == lines[-1:]
    assert "has no attempt 2; the latest is 1" in user.refuses(
        "logs", "going-00000", "--attempt", "2"
    )


def test_a_log_is_followed_from_before_its_pod_to_its_end(user: Terminal, going: str) -> None:
    def running() -> str:
        found = [pod["metadata"]["labels"] for pod in user.scene.running()]
        return max(p["kinase.dev/trial-name"] for p in found if p["kinase.dev/experiment"] == going)

    number = int(wait_for(running)[-5:]) + 2
    name = f"going-{number:05d}"
    wait_for(lambda: user.scene.get(name, "nastrials"), 60, message=name)
    assert user.says("logs", "-f", name).splitlines() == [
        f"trial {number} attempt 1 epoch {epoch} begins" for epoch in (1, 2)
    ]


def test_a_controllers_log_by_the_experiments_name(user: Terminal, going: str) -> None:
    assert "INFO" in user.says("logs", "going", "--tail", "1000") or "WARNING" in user.says(
        "logs", "going"
    )
    said = user.refuses("logs", "nothing")
    assert said.startswith("trial or experiment 'nothing' not found in namespace")
    said = user.refuses("logs", "nast/going")
    assert said.startswith("nastrials 'going' not found in namespace")
    assert "--attempt is for a trial" in user.refuses("logs", "going", "--attempt", "1", code=2)


# kinase report


def trials_of(html: str) -> int:
    """Trials in a report's table."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert found
    return len(json.loads(found[1])["rows"])


def test_the_report_of_a_search_that_runs(user: Terminal, going: str) -> None:
    path = user.folder / "going-report.html"
    assert user.says("report", going) == "going-report.html\n"
    first = path.read_text()
    assert "<h1>going " in first
    assert trials_of(first) > 1
    assert "<h1>going " in user.says("report", going, "-o", "-")


def test_the_report_is_served_while_the_search_runs(user: Terminal, going: str) -> None:
    serving = user.start("report", going, "--watch", "--no-open")
    try:
        found = wait_for(lambda: re.search(r"http://localhost:\d+/", serving.log.read_text()), 60)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(found[0], timeout=30) as answer:
            assert answer.headers["Refresh"] == "10"
            first = trials_of(answer.read().decode())

        def more() -> bool:
            with opener.open(found[0], timeout=30) as answer:
                return trials_of(answer.read().decode()) > first

        wait_for(more, 60, message="a trial that was not there", every=1)
        foreign = urllib.request.Request(found[0], headers={"Host": "evil.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            opener.open(foreign, timeout=30)
    finally:
        serving.stop()


def test_the_report_at_the_end_comes_from_the_store(user: Terminal, ended: str) -> None:
    said = user.refuses("report", ended)
    assert "no usable credentials" in said
    assert "--credentials-from-secret reads it with your rights" in said
    user.says("report", ended, "--credentials-from-secret", "-o", "mine.html")
    written = user.scene.store(ended).get("report.html")
    assert (user.folder / "mine.html").read_bytes() == written
    key, secret = keys(user)
    more = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    assert user.says("report", ended, "-o", "-", **more).encode() == written


def keys(user: Terminal) -> tuple[str, str]:
    """The bucket's credentials."""
    data = user.scene.get("nas-s3", "secrets")["data"]
    return tuple(  # type: ignore[return-value]
        base64.b64decode(data[key]).decode()
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    )


def test_a_store_that_only_the_cluster_reaches(user: Terminal, ended: str) -> None:
    """Its endpoint is a Service's name; the error says how to get at it, and that works."""
    api, path = user.scene.cluster.api, f"{user.scene.path(name=ended)}/status"
    storage = user.scene.get(ended)["spec"]["storage"]
    kept = ("uri", "region", "credentialsSecret")
    # as if the operator had put it there, which it does where the manifest names no store
    inside = {**{key: storage[key] for key in kept}, "endpoint": "http://store.minio.svc:9000"}
    api.patch(path, {"status": {"storage": inside}})
    words = ["report", ended, "--credentials-from-secret", "-o", "-"]
    try:
        said = user.refuses(*words)
        assert "kubectl port-forward -n minio svc/store 9000" in said
        assert "--endpoint http://localhost:9000" in said
        assert "<h1>ended " in user.says(*words, "--endpoint", storage["endpoint"])
    finally:
        api.patch(path, {"status": {"storage": None}})


# kinase compare


def test_searches_are_compared(user: Terminal, going: str, ended: str) -> None:
    """Read from the store, also while a controller runs."""
    words = ["compare", ended, f"nasx/{going}", "--credentials-from-secret"]
    assert user.says(*words, "--label", "short", "--label", "long") == "comparison.html\n"
    html = (user.folder / "comparison.html").read_text()
    assert "<h1>short; long</h1>" in html
    assert "2 runs in 2 groups" in html
    assert "1 is under way" in html
    assert "no usable credentials" in user.refuses("compare", ended, going)
    assert "'nothing' not found" in user.refuses("compare", "nothing", ended)


# kinase export


def a_network() -> MemoryStore:
    """A real network, trained for a moment."""
    from kinase_trainer import trial
    from tests.trainer.helpers import SMALL, job

    store = MemoryStore()
    trial.run(
        job(
            kind="Final",
            keepWeights=True,
            fidelity={"epochs": 1, "dataFraction": 0.1},
            architecture=SMALL,
        ),
        store,
    )
    return store


def test_the_winner_is_exported(user: Terminal, ended: str) -> None:
    """A real network is put where the fake trainer left its own."""
    network, bucket = a_network(), user.scene.bucket
    model = user.scene.get(ended)["status"]["model"].removeprefix(f"s3://{bucket.name}/")
    for name in ("weights.safetensors", "model.json"):
        body = network.get(f"trials/00007/{name}")
        bucket.client.put_object(Bucket=bucket.name, Key=f"{model}/{name}", Body=body)
    words = ["export", ended, "--credentials-from-secret", "-o", "out"]
    said = user.says(*words, "--format", "safetensors")
    assert "out/weights.safetensors" in said.splitlines()
    from kinase_trainer import load

    model, card = load(str(user.folder / "out"))
    assert sum(p.numel() for p in model.parameters()) == card["params"]
    said = user.refuses(*words, "--trial", "77")
    assert "trials/00077/" in said


def test_an_export_before_the_end(user: Terminal, going: str) -> None:
    said = user.refuses("export", going)
    assert said.startswith("going has no trained network: it is Searching still")


# kinase suspend, resume, wait


def test_a_search_is_suspended_shown_and_resumed(user: Terminal) -> None:
    scene, called = user.scene, "nasexperiment.kinase.dev/still"
    env = [{"name": "FAKE_EPOCH_SECONDS", "value": "0.3"}]
    scene.hold(1, name="still")
    scene.create(
        "still",
        budget={"trials": 8, "parallelism": 1},
        finalists={"count": 1},
        trialTemplate={"image": system.FAKE, "env": env},
    )
    scene.begins(1, name="still")
    assert user.says("suspend", "still", "--wait", "--timeout", "60s").splitlines() == [
        f"{called} suspended",
        f"{called} is suspended",
    ]
    assert scene.said("Suspended", "still")[0] == "True"
    assert user.says("suspend", "still") == f"{called} already suspended\n"
    assert "Suspended" in user.says("get", "still")
    label = {names.COMPONENT: "controller", names.EXPERIMENT: "still"}
    wait_for(lambda: not scene.all("pods", **label), 30, message="no controller")
    # nobody serves the report now: it is made from the journal
    html = user.says("report", "still", "--credentials-from-secret", "-o", "-")
    assert '<span class="phase Suspended">' in html
    assert trials_of(html) >= 2
    assert user.says("resume", "nasx/still", "--wait", "--timeout", "1m").splitlines() == [
        f"{called} resumed",
        f"{called} is resumed",
    ]
    assert user.says("wait", "still", "--timeout", "2m") == (
        f"{called} succeeded: 8 trials were run\n"
    )
    said = user.refuses("suspend", "still")
    assert said == "still is finished (Succeeded): there is nothing to suspend"


def test_an_experiment_that_ends_without_a_network(user: Terminal) -> None:
    user.scene.create(
        "bad",
        budget={"trials": 1},
        finalists={"count": 1},
        task={"dataset": "infeasible-always"},
        trialTemplate={
            "image": system.FAKE,
            "env": [{"name": "FAKE_FAULT_TRIAL", "value": "all"}],
        },
    )
    done = user.type("wait", "bad", "--timeout", "60s")
    assert done.exit_code == 1, done.stderr
    assert done.stdout.startswith("nasexperiment.kinase.dev/bad failed: ")
    assert "Failed" in user.says("get", "bad")


# kubectl kinase


def test_kubectl_has_them_as_a_plugin(user: Terminal, ended: str) -> None:
    kubectl = str(binaries.get("kubectl"))
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"

    def plugin(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectl, *words],
            cwd=user.folder,
            env={**ENVIRONMENT, **user.environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=90,
        )

    assert str(BIN / "kubectl-kinase") in plugin("plugin", "list").stdout
    done = plugin("kinase", "get", "-n", user.scene.namespace, "-o", "name")
    assert done.returncode == 0, done.stderr
    assert "nasexperiment.kinase.dev/ended" in done.stdout.split()
    done = plugin("kinase", "get", "nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("error: nasexperiments 'nothing' not found")
    assert "kubectl kinase report" in plugin("kinase", "report", "--help").stdout


# Rights


def test_what_a_user_may_not_do_is_said_in_one_line(user: Terminal, going: str) -> None:
    """A user who may look at experiments, and at nothing else."""
    scene = user.scene
    if not isinstance(scene.cluster, ControlPlane):
        pytest.skip("users are made by the certificates of a control plane of our own")
    path = user.folder / "looker"
    scene.cluster.user_kubeconfig(path, "looker")
    more = {"KUBECONFIG": str(path)}
    refused = user.refuses("get", "-n", scene.namespace, **more)
    assert re.search(r'is forbidden: User "looker" cannot list resource "nasexperiments"', refused)
    rules = [
        {
            "apiGroups": ["kinase.dev"],
            "resources": ["nasexperiments", "nastrials"],
            "verbs": ["get", "list", "watch"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]
    group = "rbac.authorization.k8s.io"
    base = f"/apis/{group}/v1/namespaces/{scene.namespace}"
    scene.cluster.api.post(f"{base}/roles", {"metadata": {"name": "looker"}, "rules": rules})
    scene.cluster.api.post(
        f"{base}/rolebindings",
        {
            "metadata": {"name": "looker"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "looker"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "looker"}],
        },
    )
    here = ["-n", scene.namespace]
    wait_for(lambda: "going" in user.says("get", *here, **more), 30)
    for words, missing in (
        (["suspend", going], 'cannot patch resource "nasexperiments"'),
        (["logs", "going-00000"], 'cannot get resource "pods/log"'),
        (["report", going], 'resource "pods/portforward"'),
    ):
        assert missing in user.refuses(*words, *here, **more)

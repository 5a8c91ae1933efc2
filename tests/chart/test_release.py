"""Releases on a real API server, from the installation to the removal.

The node is the stand-in, which runs images as processes: so all counts but a container's isolation.
"""

from __future__ import annotations

import base64
import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
import yaml

from tests.chart import kubernetes
from tests.chart.conftest import CHART, Helm, Refused
from tests.chart.sets import SETS
from tests.cluster import system
from tests.cluster.fixtures import Bucket, a_bucket, a_namespace
from tests.cluster.helpers import wait_for
from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Image, Node
from tests.cluster.lab.rest import ApiError
from tests.cluster.lab.s3 import S3Server
from tests.cluster.system import Scene

Object = dict[str, Any]
HOME = "kinase-system"
NAS = "nas"
RELEASE = ("kinase", f"--namespace={HOME}")
WAIT = ("--wait", "--timeout=90s")
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TRIALS = 24


# -- what the API server says of every object ----------------------------------------------


def paths(lab: Cluster) -> dict[tuple[str, str], tuple[str, str, bool]]:
    """Of every kind that the API server has: its path, its plural, whether it has namespaces."""
    found = {}
    groups = lab.api.get("/apis")["groups"]
    versions = [v["groupVersion"] for group in groups for v in group["versions"]]
    for version in ("v1", *versions):
        base = f"/{'api' if version == 'v1' else 'apis'}/{version}"
        for item in lab.api.get(base)["resources"]:
            if "/" not in item["name"]:
                found[version, item["kind"]] = (base, item["name"], item["namespaced"])
    return found


@pytest.fixture(scope="module")
def monitoring(lab: Cluster) -> None:
    """The kinds of Prometheus Operator."""
    try:
        crds = kubernetes.monitoring()
    except binaries.Unavailable as problem:
        pytest.skip(f"no CRDs of Prometheus Operator: {problem}")
    for crd in crds.values():
        name = crd["metadata"]["name"]
        lab.api.post(CRDS, crd)
        served = f"/apis/monitoring.coreos.com/v1/{name.partition('.')[0]}"
        wait_for(lambda served=served: lab.api.get(served), message=served)


def test_the_api_server_takes_every_object_and_restricted_lets_in_every_pod(
    rendered: dict[str, list[Object]], lab: Cluster, monitoring: None
) -> None:
    known = paths(lab)
    strict = "?dryRun=All&fieldValidation=Strict"
    pods, taken = [], set()
    with a_namespace(lab) as namespace:  # it enforces Pod Security `restricted`
        for name, items in rendered.items():
            for item in copy.deepcopy(items):
                base, plural, has_namespace = known[item["apiVersion"], item["kind"]]
                if has_namespace:
                    item["metadata"]["namespace"] = namespace
                    base += f"/namespaces/{namespace}"
                if item["kind"] == "Deployment":
                    pods.append((name, a_pod(item["spec"]["template"])))
                if item["kind"] == "Pod":  # its account does not exist
                    pods.append((name, a_pod(item)))
                elif (text := json.dumps(item)) not in taken:
                    taken.add(text)
                    lab.api.post(f"{base}/{plural}{strict}", item)
        path = f"/api/v1/namespaces/{namespace}/pods{strict}"
        for _, pod in pods:
            lab.api.post(path, pod)
        assert {name for name, _ in pods} == set(SETS)
        _, loose = pods[0]
        del loose["spec"]["containers"][0]["securityContext"]
        with pytest.raises(ApiError, match="violates PodSecurity"):
            lab.api.post(path, loose)


def a_pod(template: Object) -> Object:
    """A pod of a template, without what would have to be there."""
    spec = {**template["spec"], "serviceAccountName": "default"}
    spec.pop("priorityClassName", None)
    labels = template["metadata"]["labels"]
    return {"metadata": {"generateName": "pod-", "labels": labels}, "spec": spec}


# -- releases ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(node: Node) -> None:
    """The images that the chart names by default, on the node."""
    ours = system.images()
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    store = binaries.get("versitygw")
    for name, image in (
        (f"kinase-operator:{version}", ours[system.CONTROLLER]),
        (f"kinase-controller:{version}", ours[system.CONTROLLER]),
        (f"kinase-trainer:{version}", ours[system.FAKE]),
        ("versitygw:v1.8.0", Image(env={"PATH": str(store.parent)})),
    ):
        node.set_image(name, image)


@pytest.fixture(scope="module")
def namespaces(lab: Cluster, images: None) -> None:
    """The release's and the experiments', both under Pod Security `restricted`."""
    for name in (HOME, NAS):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        lab.api.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_for(lambda account=account: lab.api.get(account), message=account)


@pytest.fixture
def released(on_cluster: Helm, lab: Cluster, namespaces: None) -> Iterator[Helm]:
    """Helm, and no release when the test has ended."""
    yield on_cluster
    on_cluster("uninstall", *RELEASE, "--wait", "--ignore-not-found")


@pytest.fixture
def scene(lab: Cluster, node: Node, namespaces: None, s3_server: S3Server) -> Scene:
    """The experiments' namespace, with a bucket of its name."""
    bucket = a_bucket(lab, NAS, s3_server)
    return Scene(lab, node, None, NAS, bucket)  # type: ignore[arg-type]  # the chart's own


@pytest.fixture
def values(scene: Scene, s3_server: S3Server, tmp_path: Path) -> str:
    """Values that make that bucket the default store."""
    bucket: Bucket = scene.bucket
    credentials = {"accessKeyId": s3_server.access_key, "secretAccessKey": s3_server.secret_key}
    store = {
        "uri": f"s3://{bucket.name}/nas",
        "endpoint": bucket.endpoint,
        "region": "us-east-1",
        "credentials": credentials,
        "namespaces": [NAS],
    }
    path = tmp_path / "values.yaml"
    path.write_text(json.dumps({"store": store}))
    return f"--values={path}"


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """A chart that is older than this one. There is no release of it yet, so it is this one with
    an older version, less memory for the operator, and another column in a CRD."""
    chart = tmp_path / "previous" / "kinase"
    shutil.copytree(CHART, chart)
    for file, now, then in (
        ("Chart.yaml", "\nversion: 0.1.0\n", "\nversion: 0.0.9\n"),
        ("values.yaml", "limits: {memory: 512Mi}", "limits: {memory: 384Mi}"),
        ("files/crds/nastrials.kinase.dev.yaml", "- name: Value\n", "- name: Score\n"),
    ):
        text = (chart / file).read_text()
        assert now in text
        (chart / file).write_text(text.replace(now, then, 1))
    return chart


def operator(lab: Cluster) -> Object:
    """The operator's pod, ready."""

    def seen() -> Object | None:
        selector = quote("app.kubernetes.io/component=operator")
        pods = lab.api.get(f"/api/v1/namespaces/{HOME}/pods?labelSelector={selector}")["items"]
        ready = [
            pod
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            and system.condition(pod, "Ready")["status"] == "True"
        ]
        return ready[0] if ready else None

    found = wait_for(seen, message="the operator ready")
    assert found
    return found


def column(lab: Cluster) -> str:
    """Name of the column of a trial's value."""
    crd = lab.api.get(f"{CRDS}/nastrials.kinase.dev")
    columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
    [name] = [each["name"] for each in columns if each["jsonPath"] == ".status.value"]
    return str(name)


def memory(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["resources"]["limits"]["memory"])


def stays(lab: Cluster, *kinds: str) -> None:
    """Wait until of what has the release's label these kinds are left, and nothing else."""
    wait_for(lambda: left(lab) == set(kinds), message=f"{kinds} are left")


def left(lab: Cluster) -> set[str]:
    """Kinds of what has the release's label."""
    found = set()
    for (version, kind), (base, plural, _) in paths(lab).items():
        if version.startswith(("metrics", "events", "authorization", "authentication")):
            continue
        try:
            items = lab.api.get(
                f"{base}/{plural}?labelSelector={quote('app.kubernetes.io/instance=kinase')}"
            )["items"]
        except (ApiError, KeyError):  # no kind that can be listed
            continue
        if items:
            found.add(kind)
    return found


def goes_on(scene: Scene) -> None:
    """Wait until a trial runs that there was not yet."""
    before = {trial["metadata"]["name"] for trial in scene.all("nastrials")}
    assert len(before) < TRIALS, "the search has come too far already"

    def seen() -> bool:
        return any(
            trial["metadata"]["name"] not in before
            and (trial.get("status") or {}).get("phase") in ("Running", "Succeeded")
            for trial in scene.all("nastrials")
        )

    wait_for(seen, 60, message="another trial")


@pytest.mark.slow
@pytest.mark.timeout(900)  # many starts of an operator, each of some seconds of a core
def test_an_experiment_outlives_upgrade_rollback_and_removal_of_the_release(
    released: Helm, lab: Cluster, scene: Scene, previous: Path, values: str
) -> None:
    helm = released
    helm("install", *RELEASE, str(previous), values, *WAIT)
    first = operator(lab)
    assert memory(first) == "384Mi"
    assert column(lab) == "Score"
    assert helm("test", *RELEASE, "--timeout=60s").count("Succeeded") == 2  # account and pod

    body = system.experiment(NAS, scene.bucket)
    del body["spec"]["storage"]  # the chart's default store
    body["spec"]["budget"] = {"trials": TRIALS, "parallelism": 1}  # slow, as long as we are busy
    del body["spec"]["trialTemplate"]["image"]  # and its trainer
    body["spec"]["trialTemplate"]["env"] = [{"name": "FAKE_EPOCH_SECONDS", "value": "0.8"}]
    uid = system.create(lab, body)["metadata"]["uid"]
    goes_on(scene)
    controller = scene.controller()

    helm("upgrade", *RELEASE, str(CHART), values, *WAIT)
    second = operator(lab)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert memory(second) == "512Mi"
    assert column(lab) == "Value"
    goes_on(scene)

    helm("rollback", *RELEASE[:1], "1", RELEASE[1], *WAIT)
    assert memory(operator(lab)) == "384Mi"
    assert column(lab) == "Score"
    goes_on(scene)

    helm("uninstall", *RELEASE, "--wait")
    stays(lab, "CustomResourceDefinition")
    assert scene.get()["metadata"]["uid"] == uid
    assert len(scene.all("nastrials")) > 3
    assert scene.controller() == controller  # it waits for an operator

    helm("install", *RELEASE, str(CHART), values, *WAIT)  # and takes over what is there
    assert column(lab) == "Value"
    goes_on(scene)
    scene.change(budget={"parallelism": 16})
    status = scene.finished()["status"]
    assert status["trials"]["succeeded"] == TRIALS
    assert status["trials"]["failed"] == 0
    told = [entry.trial for entry in scene.journal(kind="told")]
    assert sorted(told) == list(range(len(told)))
    assert len(told) == TRIALS + 2  # and the finalists
    assert {trial["spec"]["attempt"] for trial in scene.all("nastrials")} == {1}
    assert scene.get()["metadata"]["uid"] == uid


@pytest.fixture
def volume(lab: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A volume of this machine, for the first claim that comes."""
    folder = tmp_path / "volume"
    folder.mkdir()
    name = "chart-volume"
    body = {
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
        },
    }
    lab.api.post("/api/v1/persistentvolumes", body)
    yield folder
    for namespace in (HOME, NAS):  # they would stay, as is promised
        lab.api.delete(f"/api/v1/namespaces/{namespace}/secrets/kinase-store")
    lab.api.delete(f"/api/v1/namespaces/{HOME}/persistentvolumeclaims/kinase-store")
    lab.api.delete(f"/api/v1/persistentvolumes/{name}")


def keys(lab: Cluster, namespace: str) -> tuple[str, str]:
    """The store's credentials as a namespace has them."""
    data = lab.api.get(f"/api/v1/namespaces/{namespace}/secrets/kinase-store")["data"]
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    one, other = (base64.b64decode(data[name]).decode() for name in names)
    return one, other


def s3(lab: Cluster, node: Node, namespace: str) -> Any:
    """A client of the embedded server, with the credentials of a namespace."""
    [pod] = [p for p in node.pods() if p["name"].startswith("kinase-store-") and p["ready"]]
    key, secret = keys(lab, namespace)
    return boto3.client(
        "s3",
        endpoint_url=f"http://{pod['ip']}:7070",
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


@pytest.mark.slow
def test_the_embedded_store_keeps_objects_and_credentials(
    released: Helm, lab: Cluster, node: Node, volume: Path
) -> None:
    helm = released
    embedded = ("--set=store.embedded.enabled=true", f"--set=store.namespaces={{{NAS}}}")
    said = helm("install", *RELEASE, str(CHART), *embedded, *WAIT)
    assert "NOT FOR PRODUCTION" in said
    assert "s3://kinase/experiments" in said
    first = keys(lab, HOME)
    assert first == keys(lab, NAS)
    assert len(first[1]) == 40
    client = s3(lab, node, NAS)
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["kinase"]
    client.put_object(Bucket="kinase", Key="experiments/a", Body=b"kept", IfNoneMatch="*")
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="kinase", Key="experiments/a", Body=b"new", IfNoneMatch="*")
    assert (volume / "buckets/kinase/experiments/a").read_bytes() == b"kept"

    [pod] = [p["uid"] for p in node.pods() if p["name"].startswith("kinase-store-")]
    helm("upgrade", *RELEASE, str(CHART), *embedded, "--set=operator.logLevel=DEBUG", *WAIT)
    assert keys(lab, HOME) == keys(lab, NAS) == first
    assert pod in [p["uid"] for p in node.pods()]  # an upgrade of the operator alone

    helm("uninstall", *RELEASE, "--wait")
    stays(lab, "CustomResourceDefinition", "PersistentVolumeClaim", "Secret")
    helm("install", *RELEASE, str(CHART), *embedded, *WAIT)
    assert keys(lab, HOME) == keys(lab, NAS) == first
    read = s3(lab, node, NAS).get_object(Bucket="kinase", Key="experiments/a")["Body"].read()
    assert read == b"kept"


def test_another_release_is_told_whose_the_kinds_are_and_removes_them_if_asked_to(
    released: Helm, lab: Cluster
) -> None:
    released("install", *RELEASE, str(CHART))
    released("uninstall", *RELEASE, "--wait")
    stays(lab, "CustomResourceDefinition")
    other = ("install", "other", f"--namespace={HOME}", str(CHART), "--set=crds.keep=false")
    with pytest.raises(Refused, match="nasexperiments"):
        released(*other)
    try:
        released(*other, "--take-ownership")
    except Refused as problem:
        if "unknown flag" in str(problem):
            pytest.skip("this Helm is older than 3.17, which cannot take over")
        raise
    released("uninstall", "other", f"--namespace={HOME}", "--wait")
    wait_for(
        lambda: not lab.api.get(CRDS + "?labelSelector=app.kubernetes.io/part-of%3Dkinase")["items"]
    )

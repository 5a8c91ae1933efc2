"""What Kinase's accounts may do, and what they may not: asked of the API server under their tokens.

The runs of all other tests happen under these rights; here is that there are no others.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kinase_operator import install
from tests.cluster import system
from tests.cluster.fixtures import Bucket, a_bucket
from tests.cluster.helpers import wait_for
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Node
from tests.cluster.lab.rest import ApiError, Rest
from tests.cluster.lab.s3 import S3Server
from tests.cluster.system import Scene

Rule = tuple[str, str, str, str]
"""API group, resource, name ("" for all), verb."""
OTHERS = "another-experiment"
TINY: dict[str, Any] = {
    "budget": {"trials": 2, "parallelism": 2},
    "control": {"share": 0},
    "finalists": {"count": 1},
}


def flat(rules: list[dict[str, Any]]) -> set[Rule]:
    """Rules as single rights."""
    return {
        (group, resource, name, verb)
        for rule in rules
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for name in rule.get("resourceNames") or ("",)
        for verb in rule["verbs"]
    }


def has(account: Rest, namespace: str) -> set[Rule]:
    """What an account may do in a namespace by the API server's word, apart from what every
    account may: ask what it may, and read the cluster's public keys."""
    review = account.post(
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": namespace}}
    )
    assert not review["status"]["incomplete"]
    everybody = ("authentication.k8s.io", "authorization.k8s.io", "certificates.k8s.io")
    return {rule for rule in flat(review["status"]["resourceRules"]) if rule[0] not in everybody}


def refused(account: Rest, method: str, path: str, body: Any = None) -> None:
    """The request is refused for want of a right, and nothing else."""
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    with pytest.raises(ApiError) as problem:
        account.request(method, path, body, kind)
    assert (problem.value.status, problem.value.reason) == (403, "Forbidden"), problem.value
    assert "cannot" in problem.value.message or "is attempting to grant" in problem.value.message


@pytest.fixture
def account(cluster: Cluster, tmp_path: Path) -> Callable[[str, str], Rest]:
    """Requests under the token of a ServiceAccount."""

    def as_(namespace: str, name: str) -> Rest:
        path = tmp_path / f"{namespace}-{name}.kubeconfig"
        return Rest(cluster.account_kubeconfig(path, namespace, name))

    return as_


# -- the operator --------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [install.operator_rules(), install.controller_rules("toy")])
def test_no_right_is_a_wildcard_and_none_is_about_secrets(rules: list[dict[str, Any]]) -> None:
    for group, resource, name, verb in flat(rules):
        assert "*" not in f"{group}{resource}{name}{verb}"
        assert resource not in ("secrets", "configmaps", "nodes", "pods/exec", "pods/attach")
        assert verb not in ("escalate", "bind", "impersonate", "deletecollection")
    assert not any("nonResourceURLs" in rule for rule in rules)


def test_the_operator_may_do_what_is_shipped_and_no_more(
    kinase: system.Operator, namespace: str, account: Callable[[str, str], Rest]
) -> None:
    me = account(system.HOME, install.NAME)
    assert has(me, namespace) == flat(install.operator_rules())


def test_the_operator_sees_no_secret_starts_no_pod_and_gives_no_right_it_has_not(
    scene: Scene, account: Callable[[str, str], Rest]
) -> None:
    me = account(system.HOME, install.NAME)
    ns = scene.namespace
    pod = {
        "metadata": {"name": "mine"},
        "spec": {"containers": [{"name": "main", "image": "lab/python"}]},
    }
    role = {"metadata": {"name": "mine"}, "rules": []}
    rights = "/apis/rbac.authorization.k8s.io/v1"
    for method, path, body in (
        ("GET", "/api/v1/secrets", None),
        ("GET", scene.path("secrets"), None),
        ("GET", scene.path("secrets", scene.bucket.secret), None),
        ("GET", scene.path("configmaps"), None),
        ("POST", scene.path("pods"), pod),
        ("DELETE", scene.path("pods", "mine"), None),
        ("POST", f"{scene.path('pods', 'mine')}/exec?command=id", None),
        ("GET", f"{scene.path('pods', 'mine')}/exec?command=id", None),
        ("GET", f"{scene.path('pods', 'mine')}/log", None),
        ("POST", f"{scene.path('pods', 'mine')}/eviction", {"metadata": {"name": "mine"}}),
        ("GET", "/api/v1/nodes", None),
        ("GET", "/api/v1/nodes/node-1/proxy/pods", None),
        ("GET", "/api/v1/namespaces", None),
        ("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", None),
        ("POST", f"{scene.path('serviceaccounts', 'default')}/token", {"spec": {}}),
        ("PATCH", scene.path(name="toy"), {"spec": {"suspend": True}}),
        ("POST", scene.path(), {"metadata": {"name": "mine"}}),
        ("PATCH", scene.path("jobs", "mine"), {"spec": {"suspend": True}}),
        ("POST", f"{rights}/clusterroles", role),
        ("POST", f"{rights}/clusterrolebindings", {**role, "roleRef": {}}),
    ):
        refused(me, method, path, body)
    # it makes Roles, but none that can do more than it can itself
    more = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    refused(me, "POST", f"{rights}/namespaces/{ns}/roles", {**role, "rules": more})
    admin = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}
    mine = {"kind": "ServiceAccount", "name": install.NAME, "namespace": system.HOME}
    binding = {"metadata": {"name": "mine"}, "roleRef": admin, "subjects": [mine]}
    refused(me, "POST", f"{rights}/namespaces/{ns}/rolebindings", binding)


# -- the controller ------------------------------------------------------------------------


def test_a_controller_may_run_its_experiment_and_nothing_else(
    scene: Scene, account: Callable[[str, str], Rest], cluster: Cluster
) -> None:
    scene.hold(0)
    scene.create(**TINY)
    scene.create(OTHERS, **TINY, suspend=True)
    scene.begins(0)
    me = account(scene.namespace, "toy-controller")
    assert has(me, scene.namespace) == flat(install.controller_rules("toy"))
    assert has(me, system.HOME) == has(me, "default") == set()
    toy, other = scene.path(name="toy"), scene.path(name=OTHERS)
    trial = scene.path("nastrials", "toy-00000")
    elsewhere = system.EXPERIMENTS.format("default")
    for method, path, body in (
        # other namespaces
        ("GET", elsewhere, None),
        ("GET", system.TRIALS.format("default"), None),
        ("POST", system.TRIALS.format("default"), {"metadata": {"name": "mine"}}),
        ("GET", "/apis/kinase.dev/v1alpha1/nasexperiments", None),
        ("GET", "/apis/kinase.dev/v1alpha1/nastrials", None),
        # other experiments, and its own manifest
        ("GET", scene.path(), None),
        ("GET", other, None),
        ("PATCH", f"{other}/status", {"status": {"phase": "Failed"}}),
        ("PATCH", toy, {"spec": {"suspend": True}}),
        ("PATCH", other, {"spec": {"suspend": True}}),
        ("DELETE", toy, None),
        ("POST", scene.path(), {"metadata": {"name": "mine"}}),
        # its trials
        ("DELETE", trial, None),
        ("PATCH", f"{trial}/status", {"status": {"phase": "Failed"}}),
        # what is around it
        ("GET", scene.path("secrets"), None),
        ("GET", scene.path("secrets", scene.bucket.secret), None),
        ("GET", scene.path("configmaps"), None),
        ("GET", scene.path("pods"), None),
        ("POST", scene.path("pods"), {"metadata": {"name": "mine"}}),
        ("GET", scene.path("jobs"), None),
        ("POST", scene.path("jobs"), {"metadata": {"name": "mine"}}),
        ("DELETE", scene.path("jobs", "toy-controller"), None),
        ("GET", scene.path("services"), None),
        ("GET", scene.path("serviceaccounts"), None),
        ("POST", f"{scene.path('serviceaccounts', 'toy-controller')}/token", {"spec": {}}),
        ("GET", scene.path("roles"), None),
        ("PATCH", scene.path("roles", "toy-controller"), {"rules": []}),
        ("POST", scene.path("rolebindings"), {"metadata": {"name": "mine"}}),
        # leases
        ("GET", scene.path("leases"), None),
        ("GET", scene.path("leases", f"{OTHERS}-controller"), None),
        ("PUT", scene.path("leases", f"{OTHERS}-controller"), {"metadata": {}}),
        ("DELETE", scene.path("leases", "toy-controller"), None),
        ("GET", "/api/v1/nodes", None),
    ):
        refused(me, method, path, body)
    assert me.get(trial)["spec"]["number"] == 0
    scene.let()
    scene.finished()


# -- trials --------------------------------------------------------------------------------


def test_a_trial_has_no_token_and_its_account_no_right(
    scene: Scene, account: Callable[[str, str], Rest]
) -> None:
    scene.hold(0)
    scene.create(**TINY)
    name = scene.begins(0)
    spec = scene.get(name, "pods")["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "default"
    sources = [set(volume) - {"name"} for volume in spec["volumes"]]
    assert sources == [{"downwardAPI"}, {"emptyDir"}]
    running = scene.node.pod(scene.namespace, name)
    environ = Path(f"/proc/{running['pid']}/environ").read_text().split("\0")
    assert not [line for line in environ if line.startswith(("KUBECONFIG=", "KUBERNETES_"))]
    assert not [path for path in Path(running["folder"]).rglob("*") if path.name == "token"]
    assert has(account(scene.namespace, "default"), scene.namespace) == set()
    scene.let()
    scene.finished()


# -- an operator of some namespaces --------------------------------------------------------


@pytest.fixture
def homes(cluster: Cluster, kinase: system.Operator) -> Iterator[list[str]]:
    """Namespaces, the first of them for an operator, while that of the session rests."""
    kinase.stop()
    names = [f"test-{secrets.token_hex(4)}" for _ in range(4)]
    for name in names:
        cluster.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
        default = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_for(lambda default=default: cluster.api.get(default), message=default)
    yield names
    for name in names:
        cluster.api.delete(f"/api/v1/namespaces/{name}")
    kinase.start()


def serving(cluster: Cluster, folder: Path, home: str, served: list[str]) -> system.Operator:
    """An operator of these namespaces, under Roles in them alone."""
    account = {"metadata": {"name": install.NAME}}
    cluster.api.post(f"/api/v1/namespaces/{home}/serviceaccounts", account)
    for body in install.rights(home, tuple(served)):
        assert body["kind"] in ("Role", "RoleBinding")
        where = f"{body['metadata']['namespace']}/{body['kind'].lower()}s"
        cluster.api.post(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{where}", body)
    config = cluster.account_kubeconfig(folder / "kubeconfig", home, install.NAME)
    environment = {"KUBECONFIG": str(config), "KINASE_NAMESPACES": ",".join(served)}
    return system.Operator(cluster, folder / "operator", **environment)


@pytest.mark.parametrize("count", [1, 2])
def test_an_operator_of_some_namespaces_needs_no_right_outside_them_and_leaves_the_rest_alone(
    cluster: Cluster,
    node: Node,
    homes: list[str],
    s3_server: S3Server,
    tmp_path: Path,
    count: int,
) -> None:
    home, *others = homes
    served, rest = others[:count], others[count:]
    operator = serving(cluster, tmp_path, home, served)
    config = Rest(tmp_path / "kubeconfig")
    for name in served:
        assert has(config, name) == flat(install.operator_rules())
    for name in [home, *rest]:
        assert has(config, name) == set()
    buckets: dict[str, Bucket] = {name: a_bucket(cluster, name, s3_server) for name in others}
    for name, bucket in buckets.items():
        system.create(cluster, system.experiment(name, bucket, **TINY))
    operator.start()
    try:
        for name in served:
            system.finished(cluster, name)
    finally:
        operator.stop()
    for name in rest:
        assert "status" not in system.get(cluster, name)
        assert not cluster.api.get(f"/apis/batch/v1/namespaces/{name}/jobs")["items"]
    log = operator.log.read_text()
    assert "Traceback" not in log
    assert "forbidden" not in log.lower()

"""The rendered chart before a real API server: every object is accepted, the rights are no wider than needed."""

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import config, dynamic

from tests.api.cluster import APPLY_PATCH, Cluster, Refused
from tests.chart.rendering import Helm, Manifest, pod_templates

VALUE_SETS = {
    "default": (),
    "own certificates": ("tls.existingSecrets=true", "tls.caCertificate=-----BEGIN"),
    "one of each": ("operator.replicas=1", "gateway.storage.storageClass=slow", "gateway.storage.existingClaim=mine"),
    "everything": (
        'imagePullSecrets=["registry"]',
        'operator.tolerations=[{"key": "site", "operator": "Exists"}]',
        'operator.nodeSelector={"zone": "west"}',
        'operator.podAnnotations={"prometheus.io/scrape": "true"}',
        'gateway.nodeSelector={"zone": "west"}',
        'gateway.podAnnotations={"prometheus.io/scrape": "true"}',
        'agent.nodeSelector={"zone": "west"}',
        'agent.podAnnotations={"prometheus.io/scrape": "true"}',
        "agent.maxUnavailable=2",
        "agent.hostPaths.proc=/srv/proc",
        "agent.clockOffsetSeconds=-3600",
        "gateway.publicUrl=https://edgewise.example.org/",
    ),
}


class Paths:
    """Where objects of any kind are in the API."""

    def __init__(self, client: dynamic.DynamicClient) -> None:
        self._resources = client.resources

    def of(self, manifest: Manifest) -> str:
        """The path of one object."""
        resource = self._resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
        metadata = manifest["metadata"]
        path: str = resource.path(name=metadata["name"], namespace=metadata.get("namespace"))
        return path


@pytest.fixture(scope="module")
def paths(kubeconfig: Any) -> Iterator[Paths]:
    with config.new_client_from_config(config_file=str(kubeconfig)) as api:
        yield Paths(dynamic.DynamicClient(api))


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_object_is_accepted(helm: Helm, cluster: Cluster, paths: Paths, values: tuple[str, ...]) -> None:
    for manifest in helm.template(*values, namespace=cluster.namespace):
        answer = cluster.request(
            "PATCH", paths.of(manifest), manifest, content_type=APPLY_PATCH, dry_run=True, force=True
        )
        assert answer["kind"] == manifest["kind"]


@pytest.fixture(scope="module")
def installed(helm: Helm, cluster: Cluster, paths: Paths) -> Iterator[str]:
    """The chart's accounts and rights for real, under names of their own; the names' first part."""
    name = cluster.namespace
    manifests = [
        found
        for found in helm.template(f"fullnameOverride={name}", namespace=cluster.namespace)
        if found["apiVersion"].startswith("rbac.") or found["kind"] == "ServiceAccount"
    ]
    for manifest in manifests:
        del manifest["metadata"]["labels"]  # so that nobody's view or edit role takes them in
        cluster.request("PATCH", paths.of(manifest), manifest, content_type=APPLY_PATCH)
    yield name
    for manifest in reversed(manifests):
        cluster.request("DELETE", paths.of(manifest))


@pytest.mark.parametrize(
    ("component", "verb", "group", "resource", "namespace", "allowed"),
    [
        ("operator", "create", "", "pods", "demo", True),
        ("operator", "delete", "", "pods", "demo", True),
        ("operator", "patch", "edgewise.dev", "edgejobs/status", "demo", True),
        ("operator", "create", "edgewise.dev", "edgenodes", None, True),
        ("operator", "create", "events.k8s.io", "events", "demo", True),
        ("operator", "create", "authentication.k8s.io", "tokenreviews", None, True),
        ("operator", "create", "apps", "controllerrevisions", "demo", True),
        ("operator", "update", "coordination.k8s.io", "leases", "OWN", True),
        ("operator", "get", "coordination.k8s.io", "leases", "kube-node-lease", True),
        ("operator", "get", "", "secrets/NAME-ca", "OWN", True),
        ("operator", "patch", "", "configmaps/NAME-ca", "OWN", True),
        ("operator", "update", "coordination.k8s.io", "leases", "kube-node-lease", False),
        ("operator", "update", "coordination.k8s.io", "leases", "demo", False),
        ("operator", "get", "", "secrets/other", "OWN", False),
        ("operator", "list", "", "secrets", "OWN", False),
        ("operator", "get", "", "secrets", "demo", False),
        ("operator", "get", "", "configmaps", "demo", False),
        ("operator", "create", "", "pods/exec", "demo", False),
        ("operator", "patch", "", "nodes", None, False),
        ("operator", "create", "", "serviceaccounts/token", "demo", False),
        ("gateway", "get", "edgewise.dev", "edgejobs", "demo", True),
        ("gateway", "create", "authorization.k8s.io", "subjectaccessreviews", None, True),
        ("gateway", "list", "edgewise.dev", "edgejobs", "demo", True),
        ("gateway", "delete", "edgewise.dev", "edgejobs", "demo", False),
        ("gateway", "get", "", "namespaces", None, True),
        ("gateway", "patch", "edgewise.dev", "edgejobs/status", "demo", False),
        ("gateway", "get", "", "secrets", "OWN", False),
        ("gateway", "create", "", "pods", "demo", False),
        ("agent", "get", "edgewise.dev", "edgejobs", "demo", False),
        ("agent", "get", "", "pods", "demo", False),
        ("agent", "get", "", "secrets", "OWN", False),
        ("agent", "create", "authentication.k8s.io", "tokenreviews", None, False),
        ("drain", "delete", "", "pods", "demo", True),
        ("drain", "patch", "apps", "deployments/NAME-operator/scale", "OWN", True),
        ("drain", "patch", "apps", "deployments/NAME-gateway/scale", "OWN", False),
        ("drain", "delete", "edgewise.dev", "edgejobs", "demo", False),
    ],
)
def test_rights(
    cluster: Cluster,
    installed: str,
    component: str,
    verb: str,
    group: str,
    resource: str,
    namespace: str | None,
    allowed: bool,
) -> None:
    """`resource` is plural, plural/subresource, plural/name or plural/name/subresource."""
    plural, *rest = resource.replace("NAME", installed).split("/")
    named = rest and (rest[0].startswith(installed) or rest[0] == "other")
    question = {
        "user": f"system:serviceaccount:{cluster.namespace}:{installed}-{component}",
        "groups": ["system:serviceaccounts", "system:authenticated"],
        "resourceAttributes": {
            "verb": verb,
            "group": group,
            "resource": plural,
            "name": rest[0] if named else "",
            "subresource": "/".join(rest[1:] if named else rest),
            **({"namespace": cluster.namespace if namespace == "OWN" else namespace} if namespace else {}),
        },
    }
    answer = cluster.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": question})
    assert answer["status"]["allowed"] is allowed, answer["status"].get("reason")


@pytest.fixture(scope="module")
def enforced(cluster: Cluster) -> Iterator[dict[str, str]]:
    """A namespace for each Pod Security level, by level."""
    levels = {level: f"{cluster.namespace}-{level}" for level in ("restricted", "baseline", "privileged")}
    for level, name in levels.items():
        labels = {"pod-security.kubernetes.io/enforce": level}
        cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    yield levels
    for name in levels.values():
        cluster.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.mark.parametrize(
    ("workload", "level", "allowed"),
    [
        ("edgewise-operator", "restricted", True),
        ("edgewise-gateway", "restricted", True),
        ("edgewise-drain", "restricted", True),
        ("edgewise-agent", "baseline", False),
        ("edgewise-agent", "privileged", True),
    ],
)
def test_pod_security(
    helm: Helm, cluster: Cluster, enforced: dict[str, str], workload: str, level: str, allowed: bool
) -> None:
    namespace = enforced[level]
    template = pod_templates(helm.template(namespace=namespace))[workload]
    account = {"metadata": {"name": template["spec"]["serviceAccountName"]}}
    path = f"/api/v1/namespaces/{namespace}"
    cluster.request("POST", f"{path}/serviceaccounts", account)
    pod = {"metadata": {"name": workload, "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    try:
        if allowed:
            cluster.request("POST", f"{path}/pods", pod, dry_run=True)
        else:
            with pytest.raises(Refused, match='violates PodSecurity "baseline:latest": hostPath volumes'):
                cluster.request("POST", f"{path}/pods", pod, dry_run=True)
    finally:
        cluster.request("DELETE", f"{path}/serviceaccounts/{account['metadata']['name']}")


def test_output_volumes_are_allowed_in_restricted_namespaces(helm: Helm) -> None:
    (driver,) = [found for found in helm.template() if found["kind"] == "CSIDriver"]
    assert driver["metadata"]["labels"]["security.kubernetes.io/csi-ephemeral-volume-profile"] == "restricted"
    assert driver["spec"] == {
        "attachRequired": False,
        "podInfoOnMount": True,
        "volumeLifecycleModes": ["Ephemeral"],
        "fsGroupPolicy": "File",
    }

"""What the chart renders, without a cluster: names, labels, security, settings, and values it refuses."""

import json
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
import yaml
from edgewise.control import settings as operator_settings
from edgewise.domain.views import Tenancy
from edgewise.gateway.settings import Settings as GatewaySettings
from edgewise_agent.settings import Settings as AgentSettings

from tests.chart.rendering import Helm, environment, one, pod_templates

VALUES = "values.yaml"


@pytest.fixture(scope="module")
def schema(helm: Helm) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((helm.chart / "values.schema.json").read_text())
    return found


def test_lint(helm: Helm) -> None:
    linted = helm.run("lint", "--strict")
    assert linted.returncode == 0, linted.stdout


def test_the_names_that_others_rely_on(helm: Helm) -> None:
    objects = {(found["kind"], found["metadata"]["name"]) for found in helm.template()}
    assert {
        ("Deployment", "edgewise-operator"),
        ("Deployment", "edgewise-gateway"),
        ("DaemonSet", "edgewise-agent"),
        ("Service", "edgewise-beats"),
        ("Service", "edgewise-gateway"),
        ("Service", "edgewise-operator-metrics"),
        ("PersistentVolumeClaim", "edgewise-results"),
        ("ServiceAccount", "edgewise-operator"),
        ("ServiceAccount", "edgewise-gateway"),
        ("ServiceAccount", "edgewise-agent"),
        ("PriorityClass", "edgewise-jobs"),
        ("CSIDriver", "outputs.edgewise.dev"),
    } <= objects


def test_recommended_labels_are_on_everything(helm: Helm) -> None:
    manifests = helm.template()
    for labels in [found["metadata"]["labels"] for found in manifests]:
        assert labels["app.kubernetes.io/name"] == "edgewise"
        assert labels["app.kubernetes.io/instance"] == "edgewise"
        assert labels["app.kubernetes.io/part-of"] == "edgewise"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/component"] in ("operator", "gateway", "agent")
    pods = pod_templates(manifests)
    for component in ("operator", "gateway", "agent"):
        assert pods[f"edgewise-{component}"]["metadata"]["labels"]["app.kubernetes.io/component"] == component


def test_services_lead_to_their_pods(helm: Helm) -> None:
    manifests = helm.template()
    pods = pod_templates(manifests)
    for service, workload, extra in (
        ("edgewise-beats", "edgewise-operator", {"edgewise.dev/leader": "true"}),
        ("edgewise-operator-metrics", "edgewise-operator", {}),
        ("edgewise-gateway", "edgewise-gateway", {}),
    ):
        found = one(manifests, "Service", service)["spec"]
        labels = pods[workload]["metadata"]["labels"]
        assert found["selector"].items() <= {**labels, **extra}.items()
        assert extra.items() <= found["selector"].items()
        ports = {port["name"] for port in pods[workload]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in found["ports"]} <= ports
    drained = pods["edgewise-drain"]["metadata"]["labels"]
    assert "app.kubernetes.io/component" not in drained, "the drain waits for the end of all pods of the operator"


def test_system_pods_leave_a_lost_node_soon_and_prefer_others_than_devices(helm: Helm) -> None:
    pods = pod_templates(helm.template())
    for workload in ("edgewise-operator", "edgewise-gateway"):
        spec = pods[workload]["spec"]
        assert {toleration["tolerationSeconds"] for toleration in spec["tolerations"]} == {10}
        (preferred,) = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        (expression,) = preferred["preference"]["matchExpressions"]
        assert expression == {"key": "edgewise.dev/edge", "operator": "NotIn", "values": ["true"]}
    agent = pods["edgewise-agent"]["spec"]
    assert agent["nodeSelector"] == {"edgewise.dev/edge": "true"}
    assert agent["tolerations"] == [{"operator": "Exists"}]
    assert agent["priorityClassName"] == "system-node-critical"


def test_the_agent_has_no_more_powers_than_it_needs(helm: Helm) -> None:
    agent = pod_templates(helm.template())["edgewise-agent"]["spec"]
    (container,) = agent["containers"]
    assert container["securityContext"] == {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]},
    }
    assert agent["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert agent["automountServiceAccountToken"] is False
    assert "hostNetwork" not in agent
    assert "hostPID" not in agent
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["kubelet"]["mountPropagation"] == "HostToContainer"
    assert mounts["proc"]["readOnly"]
    assert mounts["sys"]["readOnly"]


def test_tokens_are_for_edgewise_alone_and_outlive_a_wrong_clock(helm: Helm) -> None:
    pods = pod_templates(helm.template())
    for workload in ("edgewise-agent", "edgewise-gateway"):
        volumes = {volume["name"]: volume for volume in pods[workload]["spec"]["volumes"]}
        (source,) = volumes["token"]["projected"]["sources"]
        assert source["serviceAccountToken"] == {"audience": "edgewise", "expirationSeconds": 86400, "path": "token"}


def settings_in(environment: dict[str, str]) -> set[str]:
    """The names of the settings that an environment gives."""
    return {name.removeprefix("EDGEWISE_").lower() for name in environment}


def test_the_operator_understands_its_settings(helm: Helm) -> None:
    tenancy = "placement.starvationSeconds=90", "namespaces.named.demo.share=3", "namespaces.default.maxRunning=20"
    pods = pod_templates(helm.template("beatSeconds=2", "placement.defaultSlots=7", *tenancy))
    for workload in ("edgewise-operator", "edgewise-drain"):
        given = environment(pods[workload])
        assert settings_in(given) <= set(operator_settings.Settings.model_fields)
        operator_settings.from_environment(given)
    settings = operator_settings.from_environment(environment(pods["edgewise-operator"]))
    assert (settings.beat_seconds, settings.default_slots, settings.tls_mode) == (2, 7, "Generated")
    assert (settings.starvation_seconds, settings.namespaces.named["demo"].tenancy) == (90, Tenancy(share=3))
    assert settings.namespaces.default.tenancy == Tenancy(share=1, max_running=20)
    assert settings.edge_label == "edgewise.dev/edge=true"
    assert settings.results_url == "https://edgewise-gateway.edgewise-system.svc"
    ports = {port["containerPort"] for port in pods["edgewise-operator"]["spec"]["containers"][0]["ports"]}
    assert ports == {settings.intake_port, settings.http_port}


def test_the_gateway_understands_its_settings(helm: Helm) -> None:
    values = "logLevel=debug", "gateway.attemptsKept=12h", "gateway.namespaceQuota=5Gi"
    template = pod_templates(helm.template(*values))["edgewise-gateway"]
    given = environment(template)
    assert settings_in(given) <= {field.name for field in fields(GatewaySettings)}
    settings = GatewaySettings.from_environment(given)
    assert settings.log_level == "DEBUG"
    assert (settings.attempts_kept, settings.namespace_quota) == (timedelta(hours=12), 5 * 2**30)
    assert settings.operator_url == "https://edgewise-beats.edgewise-system.svc"
    (container,) = template["spec"]["containers"]
    assert {port["containerPort"] for port in container["ports"]} == {settings.https_port, settings.http_port}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(settings.data_dir), str(settings.tls_dir), str(settings.ca_file.parent)} <= mounted
    assert str(settings.token_file.parent) in mounted


def test_the_agent_understands_its_settings(helm: Helm) -> None:
    template = pod_templates(helm.template("agent.spool.limitBytes=3000000000", "agent.kubeletRoot=/data/kubelet"))[
        "edgewise-agent"
    ]
    given = environment(template)
    assert settings_in(given) <= {field.name for field in fields(AgentSettings)}
    settings = AgentSettings.from_environment({**given, "EDGEWISE_NODE_NAME": "edge-1"})
    assert settings.spool_limit_bytes == 3_000_000_000
    assert settings.gateway_url == "https://edgewise-gateway.edgewise-system.svc"
    (container,) = template["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["kubelet"] == str(settings.kubelet_root) == "/data/kubelet"
    assert mounts["proc"] == f"{settings.host_root}/proc"
    assert mounts["sys"] == f"{settings.host_root}/sys"
    assert [port["containerPort"] for port in container["ports"]] == [settings.http_port]


def test_no_service_variables_among_the_settings(helm: Helm) -> None:
    pods = pod_templates(helm.template())
    assert {name for name, pod in pods.items() if pod["spec"].get("enableServiceLinks") is not False} == set()


@pytest.mark.parametrize("values", [("tls.existingSecrets=true",), ("tls.certManager.issuerRef.name=internal",)])
def test_existing_certificates_are_only_read(helm: Helm, values: tuple[str, ...]) -> None:
    manifests = helm.template(*values)
    assert environment(pod_templates(manifests)["edgewise-operator"])["EDGEWISE_TLS_MODE"] == "Existing"
    rules = one(manifests, "Role", "edgewise-operator")["rules"]
    verbs = {verb for rule in rules if {"secrets", "configmaps"} & set(rule["resources"]) for verb in rule["verbs"]}
    assert verbs == {"get"}


def test_cert_manager_makes_both_secrets(helm: Helm) -> None:
    manifests = helm.template('tls.certManager.issuerRef={"name": "internal", "kind": "ClusterIssuer"}')
    certificates = {found["spec"]["secretName"]: found for found in manifests if found["kind"] == "Certificate"}
    assert set(certificates) == {"edgewise-operator-tls", "edgewise-gateway-tls"}
    operator, gateway = certificates["edgewise-operator-tls"]["spec"], certificates["edgewise-gateway-tls"]["spec"]
    assert operator["issuerRef"] == {"name": "internal", "kind": "ClusterIssuer"}
    assert operator["dnsNames"][0] == "edgewise-beats.edgewise-system.svc"
    assert gateway["dnsNames"][0] == "edgewise-gateway.edgewise-system.svc"


def test_a_given_authority_becomes_the_config_map(helm: Helm) -> None:
    manifests = helm.template("tls.existingSecrets=true", "tls.caCertificate=-----BEGIN")
    assert one(manifests, "ConfigMap", "edgewise-ca")["data"] == {"ca.crt": "-----BEGIN\n"}
    assert not [found for found in helm.template("tls.caCertificate=-----BEGIN") if found["kind"] == "ConfigMap"]


def test_results_outlive_the_release(helm: Helm) -> None:
    claim = one(helm.template("gateway.storage.size=3Gi"), "PersistentVolumeClaim", "edgewise-results")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}}}
    own = helm.template("gateway.storage.existingClaim=mine")
    assert not [found for found in own if found["kind"] == "PersistentVolumeClaim"]
    volumes = pod_templates(own)["edgewise-gateway"]["spec"]["volumes"]
    assert {"name": "results", "persistentVolumeClaim": {"claimName": "mine"}} in volumes


def test_job_pods_are_drained_before_anything_is_removed(helm: Helm) -> None:
    hooks = [found for found in helm.template() if "helm.sh/hook" in found["metadata"].get("annotations", {})]
    assert {found["metadata"]["annotations"]["helm.sh/hook"] for found in hooks} == {"pre-delete"}
    weights = {found["kind"]: found["metadata"]["annotations"].get("helm.sh/hook-weight", "0") for found in hooks}
    assert weights.pop("Job") == "0"
    assert set(weights.values()) == {"-1"}, "its rights must be there before the Job runs"


def test_images(helm: Helm) -> None:
    pods = pod_templates(helm.template("image.repository=example.org/operator", "image.tag=", "agent.image.tag=v2"))
    images = {name: pod["spec"]["containers"][0]["image"] for name, pod in pods.items()}
    version = yaml.safe_load((helm.chart / "Chart.yaml").read_text())["appVersion"]
    own = f"example.org/operator:{version}"
    assert images == {
        "edgewise-operator": own,
        "edgewise-gateway": own,
        "edgewise-drain": own,
        "edgewise-agent": "edgewise.local/agent:v2",
    }


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("replicas=3", "replicas"),
        ("operator.replica=3", "/operator"),
        ("operator.replicas=0", "/operator/replicas"),
        ("gateway.storage.sise=3Gi", "/gateway/storage"),
        ("gateway.storage.size=much", "/gateway/storage/size"),
        ("gateway.attemptsKept=long", "/gateway/attemptsKept"),
        ("gateway.attemptsKept=", "/gateway/attemptsKept"),
        ("gateway.namespaceQuota=much", "/gateway/namespaceQuota"),
        ("gateway.publicUrl=example.org", "/gateway/publicUrl"),
        ("agent.benchmark.seconds=0", "/agent/benchmark/seconds"),
        ("agent.maxUnavailable=0%", "/agent/maxUnavailable"),
        ("agent.hostPaths.proc=proc", "/agent/hostPaths/proc"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("logLevel=loud", "/logLevel"),
        ("placement.defaultPolicy=score", "/placement/defaultPolicy"),
        ("placement.defaultSlots=0", "/placement/defaultSlots"),
        ("placement.starvationSeconds=0", "/placement/starvationSeconds"),
        ("namespaces.default.share=0", "/namespaces/default/share"),
        ("namespaces.named.demo.maxRunning=0", "/namespaces/named/demo/maxRunning"),
        ("namespaces.demo.share=1", "/namespaces"),
        ("beatSeconds=0.1", "/beatSeconds"),
        ("tls.existingSecret=true", "/tls"),
        ("tls.certManager.issuerRef.nane=a", "/tls/certManager/issuerRef"),
        ("drain.timeoutSeconds=1", "/drain/timeoutSeconds"),
        ("fullnameOverride=Edge_Wise", "/fullnameOverride"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, value: str, place: str) -> None:
    rendered = helm.run("template", "--set", value)
    assert rendered.returncode != 0
    assert place in rendered.stderr


FREE = ("resources", "issuerRef", "namespaces")
"""what has names that its default does not show"""


def test_every_value_is_in_the_schema_and_every_name_in_the_schema_is_a_value(
    helm: Helm, schema: dict[str, Any]
) -> None:
    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        reference = part.get("$ref", "").removeprefix("#/definitions/")
        found: dict[str, Any] = schema["definitions"][reference] if reference else part
        return found

    def compare(values: dict[str, Any], part: dict[str, Any], path: str) -> list[str]:
        names = set(part["properties"])
        wrong = [f"{path}.{name}" for name in names ^ set(values)]
        for name in names & set(values):
            inner = resolved(part["properties"][name])
            if isinstance(values[name], dict) and name not in FREE and "properties" in inner:
                wrong += compare(values[name], inner, f"{path}.{name}")
        return wrong

    values = yaml.safe_load((helm.chart / VALUES).read_text())
    whole = {**schema, "properties": {name: part for name, part in schema["properties"].items() if name != "global"}}
    assert compare(values, whole, "") == []
    assert schema["additionalProperties"] is False

"""The pod of an attempt: pinned, restricted, and with everything that app and job ask for."""

from typing import Any

from edgewise.domain.pods import build_pod
from edgewise_agent import wire

from tests.domain.builders import JOB_UID, app, job, seconds


def built(app_spec: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return build_pod(
        job(spec=spec),
        app(**(app_spec or {})).spec,
        attempt=2,
        node="edge-3",
        placement="{}",
        priority_class="edgewise-jobs",
        deadline=seconds(90),
    )


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    containers: list[dict[str, Any]] = manifest["spec"]["containers"]
    assert len(containers) == 1
    return containers[0]


def test_name_labels_and_owner() -> None:
    meta = built()["metadata"]
    assert meta["name"] == "run-7bcca-2"
    assert meta["labels"]["edgewise.dev/job"] == "run"
    assert meta["labels"]["edgewise.dev/attempt"] == "2"
    assert [(owner["uid"], owner["controller"]) for owner in meta["ownerReferences"]] == [(JOB_UID, True)]


def test_pinned_by_required_affinity_on_the_nodes_name() -> None:
    affinity = built()["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["edge-3"]}]}]


def test_kubernetes_never_evicts_behind_our_back() -> None:
    stay = [toleration for toleration in built()["spec"]["tolerations"] if toleration["effect"] == "NoExecute"]
    assert {one["key"] for one in stay} == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert all("tolerationSeconds" not in one for one in stay)


def test_restricted() -> None:
    pod = built()
    assert pod["spec"]["securityContext"] == {
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    security = container(pod)["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_the_apps_own_ids_stand() -> None:
    security = built({"securityContext": {"runAsUser": 1000, "supplementalGroups": [44]}})["spec"]["securityContext"]
    assert (security["runAsUser"], security["supplementalGroups"], security["runAsNonRoot"]) == (1000, [44], True)


def test_arguments_are_replaced_and_appended_as_the_contract_says() -> None:
    app_spec = {"command": ["run"], "args": ["--a"]}
    assert container(built(app_spec))["args"] == ["--a"]
    assert container(built(app_spec, args=["--b"]))["args"] == ["--b"]
    assert container(built(app_spec, args=[], extraArgs=["--c"]))["args"] == ["--c"]
    assert container(built(app_spec, extraArgs=["--c"]))["args"] == ["--a", "--c"]


def test_the_environment_in_order_of_weight() -> None:
    of_the_app = [{"name": name, "value": "app"} for name in ("A", "B", "EDGEWISE_JOB")]
    env = container(built({"env": of_the_app}, env=[{"name": "B", "value": "job"}]))["env"]
    values = {one["name"]: one["value"] for one in env}
    assert values == {
        "A": "app",
        "B": "job",
        "EDGEWISE_JOB": "run",
        "EDGEWISE_ATTEMPT": "2",
        "EDGEWISE_NODE": "edge-3",
        "EDGEWISE_OUTPUTS": "/outputs",
    }


def test_values_from_elsewhere_are_passed_as_in_a_pod() -> None:
    secret = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}
    one = container(built({"env": [secret], "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}]}))
    token = next(variable for variable in one["env"] if variable["name"] == "TOKEN")
    assert token["valueFrom"]["secretKeyRef"]["key"] == "token"
    assert one["envFrom"][0]["configMapRef"]["name"] == "cm"


def test_source_files_and_outputs_are_mounted() -> None:
    one_key = [{"key": "m", "path": "m"}]
    pod = built(
        {
            "source": {"configMap": {"name": "code"}, "path": "/code"},
            "files": [
                {
                    "name": "model",
                    "mountPath": "/model",
                    "configMap": {"name": "model", "items": [{"key": "m", "path": "m"}]},
                },
                {"name": "key", "mountPath": "/key", "secret": {"secretName": "key"}},
            ],
            "outputs": {"path": "/out", "include": ["*.csv", "a/**"], "maxFiles": 7, "sizeLimit": "2Mi"},
        }
    )
    mounts = {mount["mountPath"]: mount for mount in container(pod)["volumeMounts"]}
    assert set(mounts) == {"/code", "/model", "/key", "/out"}
    assert all(mounts[path]["readOnly"] for path in ("/code", "/model", "/key"))
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes[mounts["/model"]["name"]]["configMap"]["items"] == one_key
    assert volumes[mounts["/key"]["name"]]["secret"]["secretName"] == "key"
    csi = volumes[mounts["/out"]["name"]]["csi"]
    assert csi["driver"] == "outputs.edgewise.dev"
    asked = wire.OutputVolume.from_attributes(csi["volumeAttributes"])
    assert (asked.job_uid, asked.attempt, asked.include) == (JOB_UID, 2, ("*.csv", "a/**"))
    assert (asked.max_files, asked.size_limit_bytes) == (7, 2 * 2**20)


def test_the_other_fields_of_a_pod() -> None:
    pod = built(
        {
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "pull"}],
            "serviceAccountName": "runner",
            "runtimeClassName": "gvisor",
            "terminationGracePeriodSeconds": 5,
            "tolerations": [{"key": "team", "operator": "Exists"}],
            "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
        }
    )
    spec = pod["spec"]
    assert container(pod)["imagePullPolicy"] == "Always"
    assert container(pod)["resources"] == {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}}
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("runner", True)
    assert (spec["runtimeClassName"], spec["terminationGracePeriodSeconds"]) == ("gvisor", 5)
    assert {"key": "team", "operator": "Exists"} in spec["tolerations"]
    assert (spec["priorityClassName"], spec["restartPolicy"], spec["activeDeadlineSeconds"]) == (
        "edgewise-jobs",
        "Never",
        90,
    )


def test_a_bundle_is_mounted_read_only_at_the_sources_path() -> None:
    digest = "a" * 64
    pod = built({"source": {"bundle": {"digest": f"sha256:{digest}"}, "path": "/code"}})
    volume = next(one for one in pod["spec"]["volumes"] if one["name"] == "edgewise-source")
    assert volume["csi"] == {
        "driver": "outputs.edgewise.dev",
        "readOnly": True,
        "volumeAttributes": {"bundle": digest},
    }
    mounts = {one["mountPath"]: one for one in container(pod)["volumeMounts"]}
    assert mounts["/code"] == {"name": "edgewise-source", "mountPath": "/code", "readOnly": True}

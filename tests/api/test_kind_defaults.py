"""What the API server makes of objects that leave things out, and what `kubectl get` shows, on a real API server."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from edgewise.api import (
    EDGE_APP,
    EDGE_CRON_JOB,
    EDGE_JOB,
    EDGE_NODE,
    EDGE_STREAM,
    KINDS,
    EdgeApp,
    EdgeAppSpec,
    EdgeCronJob,
    EdgeCronJobSpec,
    EdgeJob,
    EdgeJobSpec,
    EdgeNode,
    EdgeNodeSpec,
    EdgeStream,
    EdgeStreamSpec,
    Kind,
)
from edgewise.api.crd import custom_resource_definition

from tests.api.cluster import APPLY_PATCH, Cluster
from tests.api.examples import EXAMPLES

TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
NAME: Final = "edgewise-kinds-bare"

BARE: Final[dict[str, dict[str, Any]]] = {
    "EdgeNode": {},
    "EdgeApp": {"spec": {"image": "python"}},
    "EdgeJob": {"spec": {"appRef": {"name": "python"}}},
    "EdgeCronJob": {"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"appRef": {"name": "python"}}}}},
    "EdgeStream": {"spec": {"jobTemplate": {"spec": {"appRef": {"name": "python"}}}}},
}
"""The least that each kind needs."""

FILLED: Final[dict[str, dict[str, Any]]] = {
    "EdgeNode": {"maintenance": False, "thermal": {"throttleCelsius": 70, "criticalCelsius": 85}},
    "EdgeApp": {"image": "python", "securityContext": {"readOnlyRootFilesystem": False}},
    "EdgeJob": {
        "appRef": {"name": "python"},
        "placement": {"evictWhenHot": False},
        "retry": {"maxAttempts": 3, "backoffSeconds": 10, "maxBackoffSeconds": 300, "maxDisruptions": 10},
        "disconnect": {"replaceAfterSeconds": 60},
        "retention": {"pods": "1h"},
        "suspend": False,
        "cancel": False,
        "priority": 0,
        "completions": 1,
    },
}
"""What the API server makes of it."""

FILLED["EdgeCronJob"] = {
    "schedule": "@daily",
    "concurrencyPolicy": "Allow",
    "suspend": False,
    "successfulJobsHistoryLimit": 3,
    "failedJobsHistoryLimit": 1,
    "jobTemplate": {"spec": FILLED["EdgeJob"]},
}
FILLED["EdgeStream"] = {
    "suspend": False,
    "runsHistoryLimit": 3,
    "jobTemplate": {
        "spec": {name: FILLED["EdgeJob"][name] for name in ("appRef", "disconnect", "retention", "priority")}
    },
}


def bare(kind: Kind, name: str = NAME) -> dict[str, Any]:
    """The least manifest of a kind."""
    whole = {"apiVersion": "edgewise.dev/v1alpha1", "kind": kind.name, "metadata": {"name": name}, **BARE[kind.name]}
    if kind in (EDGE_JOB, EDGE_CRON_JOB, EDGE_STREAM):
        whole["spec"] = {**whole["spec"], "suspend": True}
    return whole


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_defaults_are_filled_in(cluster: Cluster, kind: Kind) -> None:
    manifest = {**bare(kind), **BARE[kind.name]}
    assert cluster.create(kind, manifest)["spec"] == FILLED[kind.name]


def test_defaults_inside_optional_parts(cluster: Cluster) -> None:
    spec = {"image": "python", "source": {"bundle": {"digest": "sha256:" + "0" * 64}}, "outputs": {}}
    answer = cluster.create(EDGE_APP, {**bare(EDGE_APP), "spec": spec})["spec"]
    assert answer["source"]["path"] == "/app"
    assert answer["outputs"] == {
        "path": "/outputs",
        "include": ["*.csv"],
        "maxFiles": 1000,
        "minFiles": 1,
        "sizeLimit": "1Gi",
        "collect": "AtEnd",
    }


def test_the_models_have_the_defaults_of_the_api_server(cluster: Cluster) -> None:
    """What is absent means the same to the operator as it does to the API server."""
    answers = {kind.name: cluster.create(kind, {**bare(kind), **BARE[kind.name]}) for kind in KINDS}
    assert EdgeNode.model_validate(answers["EdgeNode"]).spec == EdgeNodeSpec()
    assert EdgeApp.model_validate(answers["EdgeApp"]).spec == EdgeAppSpec(image="python")
    assert EdgeJob.model_validate(answers["EdgeJob"]).spec == EdgeJobSpec.model_validate(BARE["EdgeJob"]["spec"])
    cron_job = EdgeCronJob.model_validate(answers["EdgeCronJob"])
    assert cron_job.spec == EdgeCronJobSpec.model_validate(BARE["EdgeCronJob"]["spec"])
    stream = EdgeStream.model_validate(answers["EdgeStream"])
    assert stream.spec == EdgeStreamSpec.model_validate(BARE["EdgeStream"]["spec"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_default_is_tested_here(kind: Kind) -> None:
    def defaults(schema: dict[str, Any], path: str) -> Iterator[str]:
        for name, inner in schema.get("properties", {}).items():
            if "default" in inner and "properties" not in inner:
                yield f"{path}.{name}"
            yield from defaults(inner, f"{path}.{name}")
        if "items" in schema:
            yield from defaults(schema["items"], f"{path}[]")

    schema = custom_resource_definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = {path.rpartition(".")[2] for path in defaults(schema, "")}
    of_a_job = {
        *("evictWhenHot", "maxAttempts", "backoffSeconds", "maxBackoffSeconds", "maxDisruptions"),
        *("replaceAfterSeconds", "pods", "suspend", "cancel", "priority", "completions"),
        *("optional", "observedGeneration"),
    }
    tested = {
        "EdgeNode": {"maintenance", "throttleCelsius", "criticalCelsius", "count", "observedGeneration"},
        "EdgeApp": {
            *("path", "include", "maxFiles", "minFiles", "sizeLimit", "collect"),
            *("optional", "count", "operator", "readOnlyRootFilesystem", "observedGeneration"),
        },
        "EdgeJob": of_a_job,
        "EdgeCronJob": of_a_job | {"concurrencyPolicy", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"},
        "EdgeStream": {
            *("suspend", "runsHistoryLimit", "replaceAfterSeconds", "pods", "priority"),
            *("optional", "observedGeneration"),
        },
    }
    assert found == tested[kind.name]


def test_defaults_of_items(cluster: Cluster) -> None:
    devices = [{"name": "camera", "paths": ["/dev/video0"]}]
    node = cluster.create(EDGE_NODE, {**bare(EDGE_NODE), "spec": {"devices": devices}})
    assert node["spec"]["devices"][0]["count"] == 1
    spec = {
        "image": "python",
        "requires": {"devices": [{"name": "camera"}]},
        "tolerations": [{"key": "site"}],
        "envFrom": [{"secretRef": {"name": "account"}}],
    }
    app = cluster.create(EDGE_APP, {**bare(EDGE_APP), "spec": spec})["spec"]
    assert app["requires"]["devices"] == [{"name": "camera", "count": 1}]
    assert app["tolerations"] == [{"key": "site", "operator": "Equal"}]
    assert app["envFrom"] == [{"secretRef": {"name": "account", "optional": False}}]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_new_object_says_that_nobody_has_looked(cluster: Cluster, kind: Kind) -> None:
    """kstatus compares observedGeneration with generation; without one it takes a new object for a finished one."""
    answer = cluster.create(kind, {**bare(kind), "status": {"observedGeneration": 7}})
    assert answer["metadata"]["generation"] == 1
    assert answer["status"] == {"observedGeneration": -1}


def test_null_is_kept_where_it_has_a_meaning(cluster: Cluster) -> None:
    spec = {
        "appRef": {"name": "python"},
        "args": None,
        "disconnect": {"replaceAfterSeconds": None},
        "retention": {"pods": None, "results": None},
    }
    answer = cluster.create(EDGE_JOB, {**bare(EDGE_JOB), "spec": spec})
    assert answer["spec"]["disconnect"] == {"replaceAfterSeconds": None}
    assert answer["spec"]["retention"] == {"pods": None, "results": None}
    job = EdgeJob.model_validate(answer)
    assert (job.spec.args, job.spec.disconnect.replace_after_seconds, job.spec.retention.pods) == (None, None, None)


def test_never_and_forever_survive_an_apply(cluster: Cluster) -> None:
    """Null would not: `kubectl apply` leaves nulls out, and the default comes back."""
    spec = {
        "appRef": {"name": "python"},
        "suspend": True,
        "disconnect": {"replaceAfterSeconds": "Never"},
        "retention": {"pods": "Forever"},
    }
    manifest = {**bare(EDGE_JOB, "edgewise-kinds-applied"), "spec": spec}
    path = cluster.path(EDGE_JOB, "edgewise-kinds-applied")
    answers = [cluster.request("PATCH", path, manifest, content_type=APPLY_PATCH) for _ in range(2)]
    cluster.delete(EDGE_JOB, "edgewise-kinds-applied")
    assert answers[0]["metadata"]["generation"] == answers[1]["metadata"]["generation"] == 1
    job = EdgeJob.model_validate(answers[1])
    assert (job.spec.disconnect.replace_after_seconds, job.spec.retention.pods) == (None, None)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kubectl_get_tells_the_story(cluster: Cluster, stored: dict[str, str], kind: Kind) -> None:
    status = [{"op": "add", "path": "/status", "value": EXAMPLES[kind.name][0]["status"]}]
    table = cluster.patch(kind, stored[kind.name], status, status=True, accept=TABLE)
    titles = [column["name"] for column in table["columnDefinitions"]]
    row = dict(zip(titles, table["rows"][0]["cells"], strict=True))
    expected: dict[str, dict[str, Any]] = {
        "EdgeNode": {
            "Ready": "True",
            "Score": 31.76,
            "CPU-Free-%": 95.0,
            "Memory-%": 80.5,
            "Temp-°C": 45.5,
            "Running": 1,
            "Arch": "arm64",
        },
        "EdgeApp": {"Image": "edgewise.local/vision:dev", "Ready": "True", "Reason": "Fresh"},
        "EdgeJob": {
            "Phase": "Succeeded",
            "App": "surveillance",
            "Device": "edge-1",
            "Attempt": 1,
            "Results": "Complete",
            "Files": 1,
        },
        "EdgeCronJob": {
            "Schedule": "30 2 * * 1-5",
            "Time-Zone": "Europe/Berlin",
            "Suspend": True,
            "Active": 1,
            "Next-Run": "2026-01-02T03:04:05Z",
            "Ready": "True",
            "Reason": "Fresh",
        },
        "EdgeStream": {
            "Phase": "Running",
            "App": "surveillance",
            "Device": "edge-1",
            "Run": 7,
            "Restarts": 5,
            "Lag": 42,
            "Ready": "True",
            "Reason": "Fresh",
        },
    }
    assert {title: row[title] for title in expected[kind.name]} == expected[kind.name]
    assert "Age" in titles

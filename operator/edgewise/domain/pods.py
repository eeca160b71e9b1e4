"""The pod of one attempt, as a plain manifest: pinned to its device, non-root, allowed under `restricted`.

Owns the mapping from EdgeApp and EdgeJob to a pod, the names and labels of pods, and nothing of when one is made.
"""

from collections.abc import Mapping
from datetime import timedelta
from math import ceil
from typing import Any, Final

from edgewise_agent import wire

from edgewise.api import API_VERSION, GROUP, Collect, EdgeAppSpec, EdgeJobSpec, status_body
from edgewise.api.schema import Model
from edgewise.domain.demand import bundle_sha256
from edgewise.domain.views import JobView
from edgewise.notation import parse_quantity

JOB_LABEL: Final = f"{GROUP}/job"
JOB_UID_LABEL: Final = f"{GROUP}/job-uid"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
NODE_LABEL: Final = f"{GROUP}/node"
PLACEMENT_ANNOTATION: Final = f"{GROUP}/placement"

UNPRIVILEGED_ID: Final = 65532
"""The user and group that a job runs as where its app names none."""

OUTPUTS_VOLUME: Final = "edgewise-outputs"
SOURCE_VOLUME: Final = "edgewise-source"

_STAY = [
    {"key": key, "operator": "Exists", "effect": "NoExecute"}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
]
"""Kubernetes shall not evict behind our back when a device falls silent: when to move is the job's own choice."""


def pod_name(job: JobView, attempt: int) -> str:
    """`<job>-<first 5 of the job's UID>-<attempt>`: the same after a crash, another for a job of the same name."""
    return f"{job.key.name}-{job.uid[:5]}-{attempt}"


def build_pod(
    job: JobView,
    app: EdgeAppSpec,
    *,
    attempt: int,
    node: str,
    placement: str,
    priority_class: str,
    deadline: timedelta | None,
) -> dict[str, Any]:
    """The pod of attempt number `attempt` on device `node`.

    `placement` is the decision as JSON, kept in an annotation; `deadline` what is left of the job's active deadline.
    """
    spec = job.spec
    labels = {
        JOB_LABEL: job.key.name,
        JOB_UID_LABEL: job.uid,
        ATTEMPT_LABEL: str(attempt),
        NODE_LABEL: node,
        "app.kubernetes.io/managed-by": "edgewise",
        "app.kubernetes.io/name": spec.app_ref.name,
    }
    volumes, mounts = _volumes(job, app, attempt)
    container: dict[str, Any] = {
        "name": "app",
        "image": app.image,
        "command": list(app.command),
        "args": [*(app.args if spec.args is None else spec.args), *spec.extra_args],
        "env": _environment(job, app, attempt, node),
        "envFrom": [_dump(source) for source in (*app.env_from, *spec.env_from)],
        "resources": _dump(app.resources),
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": app.security_context.read_only_root_filesystem,
        },
    }
    if app.image_pull_policy:
        container["imagePullPolicy"] = app.image_pull_policy
    pod_spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": volumes,
        "affinity": {"nodeAffinity": _pinned(node)},
        "tolerations": [*_STAY, *(_dump(toleration) for toleration in app.tolerations)],
        "securityContext": _pod_security(app),
        "automountServiceAccountToken": bool(app.service_account_name),
        "enableServiceLinks": False,
        "imagePullSecrets": [_dump(secret) for secret in app.image_pull_secrets],
        "terminationGracePeriodSeconds": app.termination_grace_period_seconds,
        "serviceAccountName": app.service_account_name,
        "runtimeClassName": app.runtime_class_name,
        "priorityClassName": priority_class,
        "activeDeadlineSeconds": max(1, round(deadline.total_seconds())) if deadline is not None else None,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(job, attempt),
            "namespace": job.key.namespace,
            "labels": labels,
            "annotations": {PLACEMENT_ANNOTATION: placement},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "EdgeJob",
                    "name": job.key.name,
                    "uid": job.uid,
                    "controller": True,
                }
            ],
        },
        "spec": {name: value for name, value in pod_spec.items() if value not in (None, "", [], {})},
    }


def _pinned(node: str) -> dict[str, Any]:
    """Required affinity on the node's name: the scheduler still checks that the pod fits."""
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]}}


def _pod_security(app: EdgeAppSpec) -> dict[str, Any]:
    """The app's own ids, or unprivileged ones; never root."""
    return {
        "runAsUser": UNPRIVILEGED_ID,
        "runAsGroup": UNPRIVILEGED_ID,
        "fsGroup": UNPRIVILEGED_ID,
        **{name: value for name, value in _dump(app.security_context).items() if name != "readOnlyRootFilesystem"},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _environment(job: JobView, app: EdgeAppSpec, attempt: int, node: str) -> list[dict[str, Any]]:
    """Edgewise's own variables, then the app's (which may refer to them), the job's over those."""
    own = {
        "EDGEWISE_JOB": job.key.name,
        "EDGEWISE_ATTEMPT": str(attempt),
        "EDGEWISE_NODE": node,
        **({"EDGEWISE_OUTPUTS": app.outputs.path} if app.outputs else {}),
    }
    theirs = {one.name: _dump(one) for one in (*app.env, *job.spec.env) if one.name not in own}
    return [*({"name": name, "value": value} for name, value in own.items()), *theirs.values()]


def _volumes(job: JobView, app: EdgeAppSpec, attempt: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The pod's volumes and where its container mounts them: source, files, outputs."""
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    if app.source and app.source.config_map:
        volumes.append({"name": SOURCE_VOLUME, "configMap": _dump(app.source.config_map)})
        mounts.append({"name": SOURCE_VOLUME, "mountPath": app.source.path, "readOnly": True})
    if app.source and (sha256 := bundle_sha256(app)):
        # Read-only in the volume itself: no container can then ask otherwise, and the agent insists on it.
        bundle = {"driver": wire.CSI_DRIVER, "readOnly": True, "volumeAttributes": {wire.BUNDLE_ATTRIBUTE: sha256}}
        volumes.append({"name": SOURCE_VOLUME, "csi": bundle})
        mounts.append({"name": SOURCE_VOLUME, "mountPath": app.source.path, "readOnly": True})
    for one in app.files:
        name = f"file-{one.name}"
        content = {"configMap": _dump(one.config_map)} if one.config_map else {"secret": _dump(one.secret)}
        volumes.append({"name": name, **content})
        mounts.append({"name": name, "mountPath": one.mount_path, "readOnly": True})
    if app.outputs:
        volume = wire.OutputVolume(
            job_uid=job.uid,
            job=job.key.name,
            attempt=attempt,
            include=app.outputs.include,
            max_files=app.outputs.max_files,
            size_limit_bytes=ceil(parse_quantity(app.outputs.size_limit)),
            collect=Collect.ON_CLOSE if job.stream_uid else app.outputs.collect,
        )
        csi = {"driver": wire.CSI_DRIVER, "volumeAttributes": volume.to_attributes()}
        volumes.append({"name": OUTPUTS_VOLUME, "csi": csi})
        mounts.append({"name": OUTPUTS_VOLUME, "mountPath": app.outputs.path})
    return volumes, mounts


def _dump(model: Model | None) -> dict[str, Any]:
    """A piece of the API's model as the same piece of a pod."""
    dumped: Mapping[str, Any] = status_body(model) if model else {}
    return {name: value for name, value in dumped.items() if value not in ("", [], {})}


def resolved_deadline(spec: EdgeJobSpec, elapsed: timedelta) -> timedelta | None:
    """What is left of the job's active deadline after `elapsed`, at least 0; None where it has none."""
    if spec.active_deadline_seconds is None:
        return None
    return max(timedelta(), timedelta(seconds=spec.active_deadline_seconds) - elapsed)

"""The two ways to run the same work: as EdgeJobs, and as plain batch/v1 Jobs.

Both make pods with the same container, requests, security settings and tolerations, in one namespace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edgewise.api import API_VERSION
from edgewise.domain.pods import JOB_LABEL

from bench.cluster import Cluster
from testbed.images import REGISTRY

NAMESPACE: Final = "bench"
JOBS: Final = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
EDGE_JOBS: Final = f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/edgejobs"
EDGE_APPS: Final = f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/edgeapps"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"

_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute"}
    for what in ("not-ready", "unreachable")
]


@dataclass(frozen=True, slots=True)
class Work:
    """What every job of a part runs: `command` on the testbed's Python image, on devices with these labels."""

    name: str
    command: Sequence[str]
    args: Sequence[str]
    selector: Mapping[str, str]
    requests: Mapping[str, str]

    def app(self) -> dict[str, Any]:
        """The EdgeApp."""
        return {
            "apiVersion": API_VERSION,
            "kind": "EdgeApp",
            "metadata": {"name": self.name},
            "spec": {
                "image": f"{REGISTRY}/python:dev",
                "imagePullPolicy": "IfNotPresent",
                "command": list(self.command),
                "args": list(self.args),
                "resources": {"requests": dict(self.requests)},
                "requires": {"nodeSelector": dict(self.selector)},
                "terminationGracePeriodSeconds": 1,
            },
        }

    def edge_job(self, name: str, policy: str | None = None) -> dict[str, Any]:
        """An EdgeJob of the app; `policy` None is the installation's default."""
        spec: dict[str, Any] = {"appRef": {"name": self.name}, "retry": {"maxAttempts": 1}}
        if policy is not None:
            spec["placement"] = {"policy": policy}
        return {"apiVersion": API_VERSION, "kind": "EdgeJob", "metadata": {"name": name}, "spec": spec}

    def job(self, name: str, node: str | None = None) -> dict[str, Any]:
        """A Job; pinned to `node` by required affinity as an EdgeJob's pod is, or left to the default scheduler."""
        where: dict[str, Any] = {"nodeSelector": dict(self.selector)}
        if node is not None:
            fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
            terms = {"nodeSelectorTerms": [{"matchFields": fields}]}
            where = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
        pod = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "tolerations": _TOLERATIONS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "app",
                    "image": f"{REGISTRY}/python:dev",
                    "imagePullPolicy": "IfNotPresent",
                    "command": list(self.command),
                    "args": list(self.args),
                    "resources": {"requests": dict(self.requests)},
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                }
            ],
            **where,
        }
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        }


async def prepare(cluster: Cluster, *works: Work) -> None:
    """Make the namespace and the EdgeApps, and clear what an earlier run left."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await cluster.ensure("/api/v1/namespaces", namespace)
    await cluster.clear(EDGE_JOBS, EDGE_APPS)
    await clear_jobs(cluster)
    for work in works:
        await cluster.create(EDGE_APPS, work.app())


async def clear_edge_jobs(cluster: Cluster) -> None:
    """Delete all EdgeJobs with their pods, and nothing else."""
    await cluster.clear(EDGE_JOBS)
    await cluster.clear(PODS, selector=JOB_LABEL)


async def clear_jobs(cluster: Cluster) -> None:
    """Delete all jobs of both kinds, with their pods and those Events that have been written."""
    await cluster.clear(EDGE_JOBS, JOBS, PODS)
    await cluster.discard(f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")

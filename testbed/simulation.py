"""Simulated devices by the hundred: Nodes that kwok keeps alive, and whose pods it starts and ends.

They carry the edge label, so the agent's DaemonSet has a pod on each, but no program runs there: whoever wants them
to report must do it for them. kwok looks after these Nodes only, never after the fleet's real devices. How a pod
goes on is in simulation-stages.yaml.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from testbed import binaries, cgroups, paths, processes
from testbed.kubeapi import KubeApi
from testbed.network import SIMULATED_PODS
from testbed.nodeconfig import EDGE_LABEL
from testbed.waiting import wait_until

PROCESS: Final = "kwok"
LABEL: Final = "edgewise.dev/simulated"
"""The label, with the value `true`, that every simulated device has."""

READY_SECONDS: Final = 60

_ANNOTATION = "kwok.x-k8s.io/node"
_STAGES = paths.SOURCES / "simulation-stages.yaml"


def start(api: KubeApi, names: Iterable[str]) -> None:
    """Starts kwok and makes the devices that are missing; all are Ready then.

    Raises:
        FleetError: kwok is not built, or a device is not Ready within a minute.
    """
    groups = cgroups.detect().membership_files(cgroups.CONTROL)
    command: list[str | Path] = [
        binaries.program("kwok"),
        f"--kubeconfig={paths.KUBECONFIG}",
        f"--manage-nodes-with-annotation-selector={_ANNOTATION}=fake",
        "--node-lease-duration-seconds=40",
        f"--cidr={SIMULATED_PODS}",
        f"--config={_STAGES}",
        "--v=WARN",
    ]
    processes.start(PROCESS, command, log=paths.LOGS / f"{PROCESS}.log", groups=groups)
    present = {node["metadata"]["name"] for node in _nodes(api)}
    for name in names:
        if name not in present:
            api.post("/api/v1/nodes", _node(name))
    wait_until(lambda: all(map(_is_ready, _nodes(api))), "the simulated devices are Ready", seconds=READY_SECONDS)


def end(api: KubeApi) -> None:
    """Removes the devices with their pods, and ends kwok."""
    nodes = [node["metadata"]["name"] for node in _nodes(api)]
    for name in nodes:
        api.delete(f"/api/v1/nodes/{name}")
    gone = set(nodes)
    for pod in api.get("/api/v1/pods")["items"]:
        if pod["spec"].get("nodeName") in gone:
            meta = pod["metadata"]
            api.delete(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}?gracePeriodSeconds=0")
    if process := processes.find(PROCESS):
        process.end(10)


def _nodes(api: KubeApi) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = api.get(f"/api/v1/nodes?labelSelector={LABEL}=true")["items"]
    return nodes


def _is_ready(node: dict[str, Any]) -> bool:
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions", ()))
    tainted = any(one["key"].startswith("node.kubernetes.io/") for one in node["spec"].get("taints", ()))
    return ready and not tainted


def _node(name: str) -> dict[str, Any]:
    """A Node as a device of 16 cores registers itself."""
    key, value = EDGE_LABEL.split("=")
    resources = {"cpu": "16", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "250"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {_ANNOTATION: "fake"},
            "labels": {
                key: value,
                LABEL: "true",
                "kubernetes.io/hostname": name,
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/os": "linux",
            },
        },
        "status": {
            "allocatable": resources,
            "capacity": resources,
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "kubeletVersion": binaries.kubernetes_version(),
                "bootID": "",
                "containerRuntimeVersion": "",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "machineID": "",
                "osImage": "",
                "systemUUID": "",
            },
        },
    }

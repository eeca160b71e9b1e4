"""Pods for tests of the devices themselves, on the testbed's own image."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from testbed import Fleet, wait_until

IMAGE = "edgewise.local/python:dev"


@dataclass(frozen=True)
class TestPod:
    """A pod that the test started."""

    __test__ = False

    fleet: Fleet
    namespace: str
    name: str

    def execute(self, *command: str) -> str:
        """Standard output of a command in the pod."""
        return self.fleet.kubectl("exec", "--namespace", self.namespace, self.name, "--", *command)

    def shell(self, script: str) -> str:
        """Standard output of a shell script in the pod."""
        return self.execute("sh", "-c", script)

    def status(self) -> dict[str, Any]:
        """The pod's status."""
        pod = self.fleet.kubectl("get", "pod", "--namespace", self.namespace, self.name, "--output=json")
        status: dict[str, Any] = json.loads(pod)["status"]
        return status

    def restarts(self) -> int:
        """How often its container was started again."""
        return sum(container["restartCount"] for container in self.status().get("containerStatuses", ()))

    def ready(self) -> bool:
        """Whether its container is ready."""
        containers = self.status().get("containerStatuses", ())
        return bool(containers) and all(container["ready"] for container in containers)

    def events(self) -> str:
        """What the Events about it say, a line each."""
        about = f"--field-selector=involvedObject.kind=Pod,involvedObject.name={self.name}"
        said = '--output=jsonpath={range .items[*]}{.message}{"\\n"}{end}'
        return self.fleet.kubectl("get", "events", "--namespace", self.namespace, about, said)

    def delete(self) -> None:
        """Deletes it and waits until it is gone."""
        self.fleet.kubectl("delete", "pod", "--namespace", self.namespace, self.name, "--grace-period=1")


@contextmanager
def fresh_namespace(fleet: Fleet) -> Iterator[str]:
    """A new namespace for the length of a block."""
    name = f"test-{uuid4().hex[:8]}"
    fleet.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        fleet.kubectl("delete", "namespace", name, "--wait=false")


def run_pod(
    fleet: Fleet,
    namespace: str,
    node: str,
    *,
    name: str = "probe",
    script: str = "sleep infinity",
    volumes: dict[str, dict[str, Any]] | None = None,
) -> TestPod:
    """Starts a pod on `node` and waits until it is ready; `volumes` are volume sources by mount path."""
    started = create_pod(fleet, namespace, node, name=name, script=script, volumes=volumes)
    wait_until(started.ready, f"pod {name} on {node} is ready", seconds=60)
    return started


def create_pod(
    fleet: Fleet,
    namespace: str,
    node: str,
    *,
    name: str = "probe",
    script: str = "sleep infinity",
    volumes: dict[str, dict[str, Any]] | None = None,
) -> TestPod:
    """The same without waiting, for a pod that may not start."""
    sources = list((volumes or {}).items())
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "probe",
                    "image": IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["sh", "-c", script],
                    "volumeMounts": [{"name": f"v{i}", "mountPath": path} for i, (path, _) in enumerate(sources)],
                }
            ],
            "volumes": [{"name": f"v{i}", **source} for i, (_, source) in enumerate(sources)],
        },
    }
    apply(fleet, pod)
    return TestPod(fleet, namespace, name)


def apply(fleet: Fleet, manifest: dict[str, Any]) -> None:
    """Creates an object."""
    fleet.kubectl("create", "--filename=-", stdin=json.dumps(manifest))

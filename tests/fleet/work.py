"""EdgeApps and EdgeJobs for tests on the fleet: small scripts on the testbed's own image, and waiting for their end."""

import json
from dataclasses import dataclass
from typing import Any

from testbed import Fleet, wait_until
from tests.fleet.pods import IMAGE, apply

JOB_SECONDS = 120


@dataclass(frozen=True)
class Job:
    """An EdgeJob of a test."""

    fleet: Fleet
    namespace: str
    name: str

    def read(self) -> dict[str, Any]:
        """The EdgeJob as the API holds it."""
        text = self.fleet.kubectl("get", "edgejob", self.name, "--namespace", self.namespace, "--output=json")
        job: dict[str, Any] = json.loads(text)
        return job

    def status(self) -> dict[str, Any]:
        """Its status, empty before anyone has looked."""
        status: dict[str, Any] = self.read().get("status", {})
        return status

    def condition(self, name: str) -> dict[str, str]:
        """One of its conditions; empty when there is none of that name."""
        conditions: list[dict[str, str]] = self.status().get("conditions", [])
        return next((one for one in conditions if one["type"] == name), {})

    def holds(self, name: str) -> bool:
        """Whether a condition is True."""
        return self.condition(name).get("status") == "True"

    def phase(self) -> str:
        """Its phase."""
        return str(self.status().get("phase", ""))

    def pods(self) -> list[dict[str, Any]]:
        """Its pods, oldest attempt first."""
        selector = f"--selector=edgewise.dev/job={self.name}"
        text = self.fleet.kubectl("get", "pods", "--namespace", self.namespace, selector, "--output=json")
        items: list[dict[str, Any]] = json.loads(text)["items"]
        return sorted(items, key=lambda pod: int(pod["metadata"]["labels"]["edgewise.dev/attempt"]))

    def until(self, condition: str, seconds: float = JOB_SECONDS) -> dict[str, Any]:
        """Wait until a condition is True; its status then."""
        wait_until(lambda: self.holds(condition), f"{self.name} is {condition} ({self.phase()})", seconds=seconds)
        return self.status()

    def until_phase(self, phase: str, seconds: float = JOB_SECONDS) -> dict[str, Any]:
        """Wait for a phase; the status then."""
        wait_until(lambda: self.phase() == phase, f"{self.name} is {phase}", seconds=seconds)
        return self.status()

    def delete(self) -> None:
        """Delete it and wait until it is gone."""
        self.fleet.kubectl("delete", "edgejob", self.name, "--namespace", self.namespace)

    def events(self) -> set[str]:
        """The reasons of its Events."""
        selector = f"--field-selector=involvedObject.kind=EdgeJob,involvedObject.name={self.name}"
        text = self.fleet.kubectl("get", "events", "--namespace", self.namespace, selector, "--output=json")
        return {event["reason"] for event in json.loads(text)["items"]}


def make_app(fleet: Fleet, namespace: str, name: str, script: str, **spec: Any) -> None:
    """An EdgeApp that runs a Python script out of a ConfigMap of its own."""
    code = {"name": f"{name}-code", "namespace": namespace}
    apply(fleet, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": code, "data": {"main.py": script}})
    whole = {
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "source": {"configMap": {"name": code["name"]}, "path": "/app"},
        "command": ["python3", "/app/main.py"],
        "outputs": {},
        "terminationGracePeriodSeconds": 1,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
    }
    apply(fleet, _kind("EdgeApp", name, namespace, whole | spec))


def start(fleet: Fleet, namespace: str, name: str, app: str, **spec: Any) -> Job:
    """An EdgeJob of that app."""
    return start_all(fleet, edge_job(namespace, name, app, **spec))[0]


def start_all(fleet: Fleet, *manifests: dict[str, Any]) -> list[Job]:
    """Those EdgeJobs, all in one request."""
    apply(fleet, {"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    return [Job(fleet, one["metadata"]["namespace"], one["metadata"]["name"]) for one in manifests]


def edge_job(namespace: str, name: str, app: str, **spec: Any) -> dict[str, Any]:
    """The manifest of an EdgeJob of that app."""
    return _kind("EdgeJob", name, namespace, {"appRef": {"name": app}} | spec)


def _kind(kind: str, name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "edgewise.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}

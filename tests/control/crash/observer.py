"""What happens in the cluster, watched without a proxy: jobs' and pods' lives, and what must never be seen in them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edgewise.control.reflector import Reflector
from edgewise.domain.pods import ATTEMPT_LABEL, JOB_LABEL, JOB_UID_LABEL, NODE_LABEL
from edgewise.kube.client import KubeClient
from msgspec import Raw, json

Object = dict[str, Any]

ENDED: Final = ("Succeeded", "Failed")


@dataclass(slots=True)
class Observer:
    """The pods by UID and the jobs by name, as they are now, and the rules that were broken.

    `reachable` says whether a device has been in contact all along the last seconds: only then may nothing be started
    beside what runs on it.
    """

    reachable: Callable[[str], bool]
    pods: dict[str, Object] = field(default_factory=dict)
    jobs: dict[str, Object] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    attempts: dict[tuple[str, str], str] = field(default_factory=dict)
    """the UID of the pod of each job's attempt"""
    endings: dict[str, tuple[str, str]] = field(default_factory=dict)
    """phase and time of each finished job, by UID"""

    def reflectors(self, client: KubeClient, namespace: str) -> tuple[Reflector[Object], Reflector[Object]]:
        """What feeds the observer, to be run."""
        pods = Reflector(client, f"/api/v1/namespaces/{namespace}/pods", _decoded, _Pods(self), _OF_JOBS)
        path = f"/apis/edgewise.dev/v1alpha1/namespaces/{namespace}/edgejobs"
        return pods, Reflector(client, path, _decoded, _Jobs(self))

    def saw_pod(self, pod: Object) -> None:
        """A pod is new or different."""
        uid, labels = pod["metadata"]["uid"], pod["metadata"]["labels"]
        if uid not in self.pods and not has_ended(pod):
            self._judge_new(pod, labels)
        self.pods[uid] = pod

    def _judge_new(self, pod: Object, labels: Mapping[str, str]) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        other = self.attempts.setdefault((labels[JOB_UID_LABEL], labels[ATTEMPT_LABEL]), uid)
        if other != uid:
            self.broken.append(f"{name}: its attempt's number was used before")
        for beside in self.pods_of(labels[JOB_UID_LABEL]):
            node = beside["metadata"]["labels"][NODE_LABEL]
            if not has_ended(beside) and self.reachable(node):
                self.broken.append(f"{name} was made while {beside['metadata']['name']} lives on {node}")

    def saw_job(self, job: Object) -> None:
        """A job is new or different."""
        uid, name = job["metadata"]["uid"], job["metadata"]["name"]
        self.jobs[name] = job
        ending = (phase_of(job), job.get("status", {}).get("completionTime", ""))
        if ending[1]:
            first = self.endings.setdefault(uid, ending)
            if first != ending:
                self.broken.append(f"{name} ended as {first}, and again as {ending}")
        elif uid in self.endings:
            self.broken.append(f"{name} had ended, and goes on")

    def pods_of(self, job_uid: str) -> list[Object]:
        """The pods of a job that are there now."""
        return [pod for pod in self.pods.values() if pod["metadata"]["labels"][JOB_UID_LABEL] == job_uid]

    def phase(self, job: str) -> str:
        """A job's phase; empty while there is none."""
        return phase_of(self.jobs.get(job, {}))

    def outcomes(self, job: str) -> list[str]:
        """The outcomes of a job's attempts, oldest first."""
        return [one["outcome"] for one in self.jobs[job].get("status", {}).get("attempts", ())]

    def results(self, job: str) -> str:
        """The UID of the pod whose results are the job's."""
        return str(self.jobs[job]["status"]["results"]["podUID"])

    def living(self) -> list[str]:
        """The names of pods that have not ended."""
        return [pod["metadata"]["name"] for pod in self.pods.values() if not has_ended(pod)]


def has_ended(pod: Object) -> bool:
    """Whether the pod's containers have ended for good."""
    return pod.get("status", {}).get("phase") in ENDED


def phase_of(job: Object) -> str:
    """A job's phase."""
    return str(job.get("status", {}).get("phase", ""))


_OF_JOBS: Final = {"labelSelector": JOB_LABEL}


def _decoded(raw: bytes | Raw) -> Object:
    item: Object = json.decode(raw)
    return item


@dataclass(slots=True)
class _Pods:
    observer: Observer

    def replaced(self, objects: list[Object], version: int) -> None:
        there = {pod["metadata"]["uid"] for pod in objects}
        for pod in objects:
            self.observer.saw_pod(pod)
        self.observer.pods = {uid: pod for uid, pod in self.observer.pods.items() if uid in there}

    def changed(self, item: Object) -> None:
        self.observer.saw_pod(item)

    def deleted(self, item: Object) -> None:
        self.observer.pods.pop(item["metadata"]["uid"], None)


@dataclass(slots=True)
class _Jobs:
    observer: Observer

    def replaced(self, objects: list[Object], version: int) -> None:
        self.observer.jobs = {}
        for job in objects:
            self.observer.saw_job(job)

    def changed(self, item: Object) -> None:
        self.observer.saw_job(item)

    def deleted(self, item: Object) -> None:
        self.observer.jobs.pop(item["metadata"]["name"], None)

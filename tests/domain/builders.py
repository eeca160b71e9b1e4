"""Small worlds for tests of decisions: a device, an app, a job, a pod, each with what a test does not care about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from edgewise.api import (
    EdgeAppSpec,
    EdgeAppStatus,
    EdgeCronJobSpec,
    EdgeCronJobStatus,
    EdgeJobSpec,
    EdgeJobStatus,
    EdgeNodeSpec,
    EdgeNodeStatus,
    EdgeStreamSpec,
    EdgeStreamStatus,
    PlacementStatus,
)
from edgewise.domain.actions import Plan
from edgewise.domain.plan import plan
from edgewise.domain.views import (
    AppView,
    BeatView,
    CronView,
    Installation,
    JobView,
    Key,
    KubeNode,
    NodeView,
    PodPhase,
    PodView,
    Refusal,
    Snapshot,
    StreamView,
)
from edgewise_agent import wire

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
GIB = 2**30
JOB_UID = "7bcca88b-0000-4000-8000-000000000001"
CRON_UID = "c0000000-0000-4000-8000-000000000001"
STREAM_UID = "5e000000-0000-4000-8000-000000000001"
POD_UID = "11111111-0000-4000-8000-000000000001"


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def beat(
    *,
    cpu: float = 95,
    memory: float = 80,
    free: float = 6 * GIB,
    celsius: float | None = 45,
    events: float | None = 12_000,
    cpus: int = 1,
    age: float = 1,
    now: datetime = NOW,
    spool: tuple[int, int] = (0, GIB),
    full: str = "",
    volumes: tuple[wire.VolumeReport, ...] = (),
    bundles: tuple[str, ...] = (),
) -> BeatView:
    return BeatView(
        age=seconds(age),
        received_at=now - seconds(age),
        interval=seconds(10),
        metrics=wire.Metrics(
            cpu_free_percent=cpu,
            memory_available_percent=memory,
            memory_free_bytes=int(free),
            disk_free_bytes=10 * GIB,
            celsius=celsius,
            cpus=cpus,
        ),
        benchmark=None if events is None else wire.Benchmark(events_per_second=events, measured_at=NOW),
        spool=wire.Spool(bytes_=spool[0], limit_bytes=spool[1], full=full),
        volumes={volume.pod_uid: volume for volume in volumes},
        agent_version="0.1.0",
        bundles=frozenset(bundles),
    )


def kube(**values: Any) -> KubeNode:
    node: dict[str, Any] = {
        "uid": "node",
        "labels": {},
        "taints": (),
        "unschedulable": False,
        "ready": True,
        "ready_since": NOW - timedelta(days=1),
        "allocatable": {"cpu": 4.0, "memory": 8.0 * GIB},
        "architecture": "amd64",
    }
    return KubeNode(**(node | values))


def device(name: str = "edge-1", *, spec: dict[str, Any] | None = None, **values: Any) -> NodeView:
    node: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "generation": 1,
        "resource_version": "1",
        "spec": EdgeNodeSpec.model_validate(spec or {}),
        "status": EdgeNodeStatus(),
        "kube": kube(),
        "beat": beat(),
        "lease": None,
        "leading_for": seconds(3600),
    }
    return NodeView(**(node | values))


def app(name: str = "faces", **spec: Any) -> AppView:
    whole = {"image": "registry.example/faces:1", "outputs": {}} | spec
    return AppView(Key("demo", name), f"uid-{name}", 1, "1", EdgeAppSpec.model_validate(whole), EdgeAppStatus())


def job(name: str = "run", *, uid: str = JOB_UID, status: EdgeJobStatus | None = None, **values: Any) -> JobView:
    spec = {"appRef": {"name": "faces"}} | values.pop("spec", {})
    view: dict[str, Any] = {
        "key": Key("demo", name),
        "uid": uid,
        "generation": 1,
        "resource_version": "1",
        "created_at": NOW - seconds(5),
        "deleting": False,
        "spec": EdgeJobSpec.model_validate(spec),
        "status": status or EdgeJobStatus(),
    }
    return JobView(**(view | values))


def cron(name: str = "nightly", *, status: EdgeCronJobStatus | None = None, **values: Any) -> CronView:
    """An EdgeCronJob that was made at 11:30 and is due every five minutes; `spec` changes its spec."""
    spec = {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"appRef": {"name": "faces"}}}} | values.pop("spec", {})
    view: dict[str, Any] = {
        "key": Key("demo", name),
        "uid": CRON_UID,
        "generation": 1,
        "resource_version": "1",
        "created_at": NOW - timedelta(minutes=30),
        "deleting": False,
        "run_now": "",
        "spec": EdgeCronJobSpec.model_validate(spec),
        "status": status or EdgeCronJobStatus(),
    }
    return CronView(**(view | values))


def stream(name: str = "scan", *, status: EdgeStreamStatus | None = None, **values: Any) -> StreamView:
    """An EdgeStream that was made half an hour ago; `spec` changes its spec, `template` that of its runs."""
    template = {"spec": {"appRef": {"name": "faces"}} | values.pop("template", {})}
    spec = {"jobTemplate": template} | values.pop("spec", {})
    view: dict[str, Any] = {
        "key": Key("demo", name),
        "uid": STREAM_UID,
        "generation": 1,
        "resource_version": "1",
        "created_at": NOW - timedelta(minutes=30),
        "deleting": False,
        "spec": EdgeStreamSpec.model_validate(spec),
        "status": status or EdgeStreamStatus(),
    }
    return StreamView(**(view | values))


def pod(phase: PodPhase = PodPhase.RUNNING, *, attempt: int = 1, node: str = "edge-1", **values: Any) -> PodView:
    view: dict[str, Any] = {
        "key": Key("demo", f"run-7bcca-{attempt}"),
        "uid": f"{attempt:08d}-0000-4000-8000-000000000001",
        "resource_version": "1",
        "job_uid": JOB_UID,
        "job": "run",
        "attempt": attempt,
        "node": node,
        "placement": PlacementStatus(policy="Score", score=31.76, message="it is the best"),
        "phase": phase,
        "bound": True,
        "deleting": False,
        "created_at": NOW - seconds(4),
        "running_since": NOW - seconds(3) if phase is PodPhase.RUNNING else None,
        "started_at": NOW - seconds(3) if phase is not PodPhase.PENDING else None,
        "finished_at": NOW - seconds(1) if phase in (PodPhase.SUCCEEDED, PodPhase.FAILED) else None,
        "exit_code": {PodPhase.SUCCEEDED: 0, PodPhase.FAILED: 3}.get(phase),
        "reason": {PodPhase.SUCCEEDED: "Completed", PodPhase.FAILED: "Error"}.get(phase, ""),
        "requests": {"cpu": 0.1, "memory": 128 * 2**20},
        "has_outputs": True,
    }
    return PodView(**(view | values))


def manifest(of: PodView, *, files: int = 1, refused: int = 0) -> wire.Manifest:
    return wire.Manifest(
        namespace="demo",
        job="run",
        job_uid=JOB_UID,
        pod_uid=of.uid,
        attempt=of.attempt,
        node=of.node,
        completed_at=NOW,
        files=tuple(
            wire.ResultFile(name=f"{number}.csv", bytes_=10, sha256="a" * 64, rows=2) for number in range(files)
        ),
        refused=tuple(wire.RefusedFile(name=f"link-{number}", reason="Symlink") for number in range(refused)),
        refused_count=refused,
    )


def snapshot(
    *,
    nodes: tuple[NodeView, ...] | None = None,
    apps: tuple[AppView, ...] | None = None,
    jobs: tuple[JobView, ...] = (),
    pods: tuple[PodView, ...] = (),
    manifests: tuple[wire.Manifest, ...] = (),
    installation: Installation | None = None,
    refusals: dict[str, Refusal] | None = None,
    newcomers: tuple[str, ...] = (),
    crons: tuple[CronView, ...] = (),
    streams: tuple[StreamView, ...] = (),
    leading_for: timedelta = timedelta(hours=1),
) -> Snapshot:
    by_job: dict[str, tuple[PodView, ...]] = {}
    for one in pods:
        by_job[one.job_uid] = (*by_job.get(one.job_uid, ()), one)
    return Snapshot(
        nodes={node.name: node for node in (nodes if nodes is not None else (device(),))},
        apps={one.key: one for one in (apps if apps is not None else (app(),))},
        jobs={one.key: one for one in jobs},
        pods=by_job,
        manifests={one.pod_uid: one for one in manifests},
        refusals=refusals or {},
        newcomers={name: kube() for name in newcomers},
        crons={one.key: one for one in crons},
        streams={one.key: one for one in streams},
        leading_for=leading_for,
        installation=installation
        or Installation(default_policy="Score", priority_class="edgewise-jobs", gateway_url="https://gateway"),
    )


def planned(now: datetime = NOW, **values: Any) -> Plan:
    return plan(snapshot(**values), now)

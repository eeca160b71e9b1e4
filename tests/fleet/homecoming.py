"""Results on their way home, met half-way: Edgewise with slow uploads and small volumes, and jobs that send.

What a test has to look at is here: the folder of a live volume, kubelet's record of it, and what is home of an attempt.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from edgewise_agent.wire import CSI_DRIVER, OutputVolume
from msgspec import json

from testbed import Fleet, wait_until
from testbed.install import NAMESPACE, install
from testbed.results import Results
from tests.fleet.faults import arguments, edge_devices, pinned, wait_fresh
from tests.fleet.pods import TestPod, create_pod
from tests.fleet.volume import CLAIM, ResultsVolume, cramped_volume
from tests.fleet.work import Job, start

MIB: Final = 2**20
VOLUME_BYTES: Final = 384 * MIB
SPOOL_BYTES: Final = 64 * MIB
FLOOR_BYTES: Final = 3 * 2**30
BYTES_A_SECOND: Final = MIB
SIZE: Final = 16
"""MiB that a job writes: seconds of upload"""
FILES: Final = 2
"""that WRITER writes"""


@contextmanager
def full_speed(fleet: Fleet) -> Iterator[None]:
    """Every device has a whole core for the length of a block."""
    before = {name: fleet.device(name).settings.quota_percent for name in edge_devices(fleet)}
    try:
        for name in before:
            fleet.quota(name, 100)
        yield
    finally:
        for name, percent in before.items():
            fleet.quota(name, percent or 100)


def installed(fleet: Fleet, *settings: str) -> None:
    """Install Edgewise with these settings, and wait until all agents have them."""
    install(fleet, "agent.maxUnavailable=100%", *settings)
    agents = ("daemonset/edgewise-agent", "--namespace", NAMESPACE)
    fleet.kubectl("rollout", "status", *agents, "--timeout=110s")
    wait_fresh(fleet, *edge_devices(fleet))


@contextmanager
def slow_uploads(fleet: Fleet) -> Iterator[ResultsVolume]:
    """Edgewise with small volumes and slow uploads, and as it was before after the block."""
    with cramped_volume(fleet, VOLUME_BYTES) as made, full_speed(fleet):
        try:
            installed(
                fleet,
                f"gateway.storage.existingClaim={CLAIM}",
                f"agent.upload.bytesPerSecond={BYTES_A_SECOND}",
                f"agent.spool.limitBytes={SPOOL_BYTES}",
                f"agent.spool.freeSpaceFloorBytes={FLOOR_BYTES}",
            )
            yield made
        finally:
            installed(fleet)


def send(fleet: Fleet, namespace: str, device: str, name: str = "", mebibytes: int = SIZE) -> Job:
    """A job on that device, which is waited for however long it is away; so each of its files is sent once."""
    return start(
        fleet,
        namespace,
        name or f"from-{device}",
        "writer",
        args=arguments(0, 0, mebibytes),
        placement=pinned(device),
        disconnect={"replaceAfterSeconds": None},
    )


def until_ended(job: Job) -> None:
    """Wait until the API server knows that the job's pod has ended."""
    wait_until(
        lambda: any(pod["status"]["phase"] == "Succeeded" for pod in job.pods()), f"{job.name} has ended", seconds=90
    )


def attempt_files(reader: Results, job: Job, number: int, seconds: float = 90) -> dict[str, Any]:
    """The listing of what an attempt has left, once it is home."""
    path = f"/v1/namespaces/{job.namespace}/jobs/{job.name}/attempts/{number}/files"

    def listing() -> dict[str, Any]:
        answer = reader.request(path)
        files: dict[str, Any] = json.decode(answer.data) if answer.status == 200 else {}
        return files

    return wait_until(listing, f"what attempt {number} of {job.name} left is home", seconds=seconds)


def attempts(reader: Results, job: Job) -> list[dict[str, Any]]:
    """The job's attempts that are home."""
    path = f"/v1/namespaces/{job.namespace}/jobs/{job.name}/attempts"
    listed: list[dict[str, Any]] = json.decode(reader.request(path).data)["attempts"]
    return listed


def attempt_file(reader: Results, job: Job, number: int, name: str) -> bytes:
    """The content of one file that an attempt has left."""
    path = f"/v1/namespaces/{job.namespace}/jobs/{job.name}/attempts/{number}/files/{name}"
    return reader.request(path).data


def live_volume(fleet: Fleet, device: str, job: Job) -> Path:
    """The folder that the job's running pod writes to, as a path of the host."""
    [pod] = job.pods()
    volumes = fleet.device(device).root() / f"var/lib/kubelet/pods/{pod['metadata']['uid']}/volumes"
    [folder] = volumes.glob("kubernetes.io~csi/*/mount")
    return folder


def empty_record(live: Path) -> None:
    """Empty kubelet's record of a volume for good: kubelet never syncs it, so a power cut may do that."""
    with (live.parent / "vol_data.json").open("wb") as record:
        os.fsync(record.fileno())


def pod_with_volume(fleet: Fleet, namespace: str, device: str) -> TestPod:
    """A pod with an output volume that no job has asked for, as one that was bound just before the spool was full."""
    asked = OutputVolume(
        job_uid=str(uuid4()), job="none", attempt=1, include=("*.csv",), max_files=1, size_limit_bytes=MIB
    )
    source = {"csi": {"driver": CSI_DRIVER, "volumeAttributes": asked.to_attributes()}}
    return create_pod(fleet, namespace, device, name=f"with-volume-{device}", volumes={"/outputs": source})

"""The results volume as the host sees it: what has arrived on it, copies of it, and one of a test's own that fills up.

The testbed's own claims are folders of the hub's disk, whose filling would cost the hub its pods. So the gateway gets a
disk of its own here, as `gateway.storage.existingClaim` allows.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed import Fleet, disks, paths, wait_until
from testbed.commands import run
from testbed.install import NAMESPACE
from tests.fleet.pods import apply
from tests.fleet.work import Job

CLAIM: Final = "cramped-results"
_HUB: Final = "hub"
_MOUNTED_AT: Final = "/srv/cramped-results"


@dataclass(frozen=True)
class Upload:
    """A job's upload while it is under way."""

    job: Job
    uid: str
    staging: Path

    def arrived(self) -> int:
        """Bytes that have arrived, whether they are acknowledged or not; 0 before and after the upload."""
        return sum(_size(part) for part in self.staging.glob("*/*.part"))

    def acknowledged(self) -> dict[str, int]:
        """How many bytes the gateway says that it holds of each content, by SHA-256."""
        held = {}
        for record in self.staging.glob("*/*.offset"):
            with suppress(FileNotFoundError):  # complete, and moved to its place
                held[record.stem] = int(record.read_text() or "0")
        return held

    def missing(self, held: dict[str, int]) -> dict[str, int]:
        """Of what was acknowledged before, what is not there any more."""
        now = self.acknowledged()
        return {sha256: bytes_ for sha256, bytes_ in held.items() if now.get(sha256, bytes_) < bytes_}

    def wait_arrived(self, bytes_: int) -> int:
        """Wait until so much has arrived; how much it is then."""
        what = f"{bytes_} bytes of {self.job.name} have arrived"
        return wait_until(lambda: self._at_least(bytes_), what, seconds=120, every_seconds=0.01)

    def _at_least(self, bytes_: int) -> int:
        arrived = self.arrived()
        return arrived if arrived >= bytes_ else 0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # complete, and moved to its place
        return 0


@dataclass(frozen=True)
class ResultsVolume:
    """The gateway's volume, a folder of the host."""

    folder: Path

    def upload(self, job: Job) -> Upload:
        """The upload of that job."""
        uid: str = job.read()["metadata"]["uid"]
        return Upload(job, uid, self.folder / "staging" / uid)

    def kept(self, job: Job) -> list[Path]:
        """All files that are kept of that job."""
        uid = job.read()["metadata"]["uid"]
        return [file for file in (self.folder / "jobs" / uid).rglob("*") if file.is_file()]

    def fill(self) -> None:
        """Leave no room on it."""
        disks.fill(self.folder, 100)

    def free(self) -> None:
        """Make room again."""
        disks.fill(self.folder, 0)

    def copy_to(self, folder: Path) -> None:
        """Make a copy, with owners and times."""
        run("cp", "--archive", self.folder, folder)

    def put_back(self, copy: Path) -> None:
        """Have on it what the copy has, and nothing else."""
        for entry in self.folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        run("cp", "--archive", f"{copy}/.", self.folder)


def usual_volume(fleet: Fleet) -> ResultsVolume:
    """The volume that the gateway has when Edgewise is installed as usual."""
    claim = ("persistentvolumeclaim", "edgewise-results", "--namespace", NAMESPACE)
    uid = fleet.kubectl("get", *claim, "--output=jsonpath={.metadata.uid}")
    return ResultsVolume(fleet.device(_HUB).disk() / f"var/lib/edgewise-volumes/pvc-{uid}")


@contextmanager
def cramped_volume(fleet: Fleet, bytes_: int) -> Iterator[ResultsVolume]:
    """A volume of that size on a disk of its own, as the claim `CLAIM`, for the length of a block."""
    hub, image = fleet.device(_HUB), paths.DISKS / f"{CLAIM}.ext4"
    folder = hub.attach(image, bytes_, _MOUNTED_AT)
    try:
        for manifest in _manifests(bytes_):
            apply(fleet, manifest)
        yield ResultsVolume(folder)
    finally:
        for kind in ("persistentvolumeclaim", "persistentvolume"):
            fleet.kubectl("delete", kind, CLAIM, "--namespace", NAMESPACE, "--ignore-not-found")
        hub.detach(image, _MOUNTED_AT)


def _manifests(bytes_: int) -> list[dict[str, Any]]:
    """The PersistentVolume on that disk, and the claim of it."""
    size = {"storage": f"{bytes_}"}
    on_hub = {"key": "kubernetes.io/hostname", "operator": "In", "values": [_HUB]}
    volume = {
        "capacity": size,
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": NAMESPACE, "name": CLAIM},
        "local": {"path": _MOUNTED_AT},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_hub]}]}},
    }
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "volumeName": CLAIM,
        "resources": {"requests": size},
    }
    metadata = {"name": CLAIM}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata | {"namespace": NAMESPACE},
            "spec": claim,
        },
    ]

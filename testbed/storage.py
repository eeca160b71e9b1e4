"""The provisioner behind the default StorageClass (`python -m testbed.storage`).

For each claim that the scheduler has chosen a node for, it makes a folder on
that node's disk and a PersistentVolume of kind `local` on it, so data outlives
pods but not the node's disk, as on a real edge device. `local` and not
`hostPath`, because only there does the kubelet apply a pod's fsGroup. It asks
once a second instead of watching: two small lists cost nothing at this size, and
there is no broken watch to recover from. The claim's size is not enforced.
"""

import re
import sys
import time
from pathlib import Path
from shutil import rmtree

from testbed import cgroups, paths
from testbed.controlplane import API
from testbed.device import Device
from testbed.errors import FleetError
from testbed.kubeapi import Body, KubeApi
from testbed.settings import FleetSettings

PROCESS = "storage"
PROVISIONER = "testbed.edgewise.dev/local"
EVERY_SECONDS = 1.0
_FOLDER = "/var/lib/edgewise-volumes"
_SELECTED = "volume.kubernetes.io/selected-node"
_STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_VOLUMES = "/api/v1/persistentvolumes"


def main() -> None:
    """Provisions and reclaims until it is ended."""
    api = KubeApi(API)
    while True:
        try:
            one_round(api)
        except (FleetError, OSError) as error:
            print(error, file=sys.stderr, flush=True)
        time.sleep(EVERY_SECONDS)


def one_round(api: KubeApi) -> None:
    """Makes the volumes that claims wait for and removes those whose claims are gone."""
    volumes = {volume["metadata"]["name"]: volume for volume in api.get(_VOLUMES)["items"]}
    for claim in api.get("/api/v1/persistentvolumeclaims")["items"]:
        node = wanted_on(claim)
        if node is not None and volume_name(claim) not in volumes:
            folder = _on_node(node, f"{_FOLDER}/{volume_name(claim)}")
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
            api.post(_VOLUMES, volume_for(claim, node))
    for name, volume in volumes.items():
        if released(volume):
            node = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"][
                0
            ]
            rmtree(_on_node(node, volume["spec"]["local"]["path"]), ignore_errors=True)
            api.delete(f"{_VOLUMES}/{name}")


def wanted_on(claim: Body) -> str | None:
    """The node that a claim of ours waits for a volume on, None when it waits for nothing."""
    annotations = claim["metadata"].get("annotations", {})
    ours = annotations.get(_STORAGE_PROVISIONER) == PROVISIONER
    waits = claim["status"].get("phase") == "Pending" and "deletionTimestamp" not in claim["metadata"]
    return annotations.get(_SELECTED) if ours and waits else None


def released(volume: Body) -> bool:
    """Whether a volume of ours lost its claim and may go."""
    ours = volume["metadata"].get("annotations", {}).get(_PROVISIONED_BY) == PROVISIONER
    reclaim, phase = volume["spec"]["persistentVolumeReclaimPolicy"], volume["status"].get("phase")
    return ours and bool(reclaim == "Delete") and bool(phase == "Released")


def volume_name(claim: Body) -> str:
    """The name of a claim's volume and folder."""
    return f"pvc-{claim['metadata']['uid']}"


def volume_for(claim: Body, node: str) -> Body:
    """The PersistentVolume on `node` for `claim`."""
    metadata, spec = claim["metadata"], claim["spec"]
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "annotations": {_PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": "Filesystem",
            "storageClassName": spec["storageClassName"],
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "local": {"path": f"{_FOLDER}/{volume_name(claim)}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
        },
    }


def _on_node(node: str, path: str) -> Path:
    if not re.fullmatch(rf"{_FOLDER}/pvc-[0-9a-f-]+", path):
        raise FleetError(f"{path} is no folder of a volume")
    settings = FleetSettings.load(paths.SETTINGS)
    if settings is None or node not in settings.devices:
        raise FleetError(f"no node {node} in the fleet")
    return Device(settings.devices[node], cgroups.detect()).root() / path.lstrip("/")


if __name__ == "__main__":
    main()

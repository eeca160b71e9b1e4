"""Which claims get a volume, where, and which volumes go."""

from typing import Any

import pytest

from testbed import storage


def claim(**changes: Any) -> dict[str, Any]:
    annotations = {
        "volume.kubernetes.io/storage-provisioner": storage.PROVISIONER,
        "volume.kubernetes.io/selected-node": "hub",
    }
    return {
        "metadata": {
            "name": "data",
            "namespace": "demo",
            "uid": "1f0c",
            "annotations": changes.get("annotations", annotations),
            **changes.get("metadata", {}),
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "local",
            "resources": {"requests": {"storage": "1Gi"}},
        },
        "status": {"phase": changes.get("phase", "Pending")},
    }


def test_claim_waits_on_the_node_that_the_scheduler_chose() -> None:
    assert storage.wanted_on(claim()) == "hub"


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": "Bound"},
        {"annotations": {}},
        {"annotations": {"volume.kubernetes.io/storage-provisioner": storage.PROVISIONER}},
        {"annotations": {"volume.kubernetes.io/selected-node": "hub"}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_claim_that_waits_for_nothing(changes: dict[str, Any]) -> None:
    assert storage.wanted_on(claim(**changes)) is None


def test_volume_is_bound_to_its_claim_and_its_node() -> None:
    volume = storage.volume_for(claim(), "hub")

    assert volume["metadata"]["name"] == "pvc-1f0c"
    assert volume["spec"]["claimRef"]["uid"] == "1f0c"
    assert volume["spec"]["local"]["path"] == "/var/lib/edgewise-volumes/pvc-1f0c"
    assert "'hub'" in str(volume["spec"]["nodeAffinity"])


@pytest.mark.parametrize(
    ("phase", "policy", "provisioner", "goes"),
    [
        ("Released", "Delete", storage.PROVISIONER, True),
        ("Bound", "Delete", storage.PROVISIONER, False),
        ("Released", "Retain", storage.PROVISIONER, False),
        ("Released", "Delete", "another", False),
    ],
)
def test_volume_goes_when_its_claim_is_gone(phase: str, policy: str, provisioner: str, goes: bool) -> None:
    volume = storage.volume_for(claim(), "hub")
    volume["status"] = {"phase": phase}
    volume["spec"]["persistentVolumeReclaimPolicy"] = policy
    volume["metadata"]["annotations"] = {"pv.kubernetes.io/provisioned-by": provisioner}

    assert storage.released(volume) is goes

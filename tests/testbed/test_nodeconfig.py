"""A device's configuration: its share of the host, its addresses, its labels."""

import json
from pathlib import Path
from typing import Any

import pytest

from testbed import nodeconfig
from testbed.nodeconfig import Host, Identity
from testbed.settings import HUB, DeviceSettings

GIB = 1 << 30
HOST = Host(cpus=2, memory_bytes=24 * GIB, cgroup_v1=True)
IDENTITY = Identity("authority", "certificate", "key", "kubelet", "proxy")


def kubelet(device: DeviceSettings, host: Host = HOST) -> dict[str, Any]:
    written = nodeconfig.files(device, host, IDENTITY)["/run/edgewise/kubelet.yaml"]
    config: dict[str, Any] = json.loads(written)
    return config


@pytest.mark.parametrize(
    ("quota", "reserved"), [(100, "1000m"), (25, "1000m"), (12.5, "1000m"), (150, "0m"), (400, "0m")]
)
def test_a_slow_device_has_a_whole_core_all_the_same(quota: float, reserved: str) -> None:
    assert kubelet(DeviceSettings("edge-1", 1, quota_percent=quota))["systemReserved"]["cpu"] == reserved


def test_hub_has_all_cpus() -> None:
    assert "cpu" not in kubelet(HUB)["systemReserved"]


def test_allocatable_memory_is_the_limit() -> None:
    device = DeviceSettings("edge-1", 1, memory_bytes=2 * GIB)

    assert kubelet(device)["systemReserved"]["memory"] == str(22 * GIB)


@pytest.mark.parametrize("v1", [True, False])
def test_containers_have_quotas_of_their_own_where_the_kernel_can_nest_them(v1: bool) -> None:
    host = Host(cpus=2, memory_bytes=24 * GIB, cgroup_v1=v1)

    assert kubelet(DeviceSettings("edge-1", 1), host)["cpuCFSQuota"] is not v1


def test_times_are_the_settings() -> None:
    config = kubelet(DeviceSettings("edge-1", 1, lease_seconds=4, status_seconds=1))

    assert config["nodeLeaseDurationSeconds"] == 4
    assert config["nodeStatusUpdateFrequency"] == "1s"


def test_pods_get_addresses_from_the_devices_own_range() -> None:
    text = nodeconfig.files(DeviceSettings("edge-7", 7), HOST, IDENTITY)["/run/edgewise/cni/10-bridge.conflist"]

    assert json.loads(text)["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "198.18.7.0/24"}]]


def test_only_edge_devices_carry_the_edge_label() -> None:
    def labels(device: DeviceSettings) -> bool:
        command = nodeconfig.services(device, Path("/programs"))["kubelet"]
        return "--node-labels=edgewise.dev/edge=true" in command

    assert labels(DeviceSettings("edge-1", 1))
    assert not labels(HUB)

"""The configuration files and command lines of a device's own containerd, kubelet and kube-proxy.

Pure text from settings; device.py hands it to boot.py, which writes it inside
the device.
"""

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from testbed.cgroups import device_group
from testbed.network import DNS_ADDRESS, IMAGE_REGISTRY
from testbed.settings import DeviceSettings

EDGE_LABEL = "edgewise.dev/edge=true"
PAUSE_IMAGE = "edgewise.local/pause:dev"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
MAX_PODS = 60
CONTAINERD = "containerd"
_FOLDER = "/run/edgewise"


@dataclass(frozen=True, slots=True)
class Host:
    """What the host has: its CPUs and memory, and whether its control groups are v1."""

    cpus: int
    memory_bytes: int
    cgroup_v1: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """The texts of a device's certificate, key and kubeconfigs, and of the cluster's authority."""

    authority: str
    certificate: str
    key: str
    kubelet_kubeconfig: str
    proxy_kubeconfig: str


def files(device: DeviceSettings, host: Host, identity: Identity) -> dict[str, str]:
    """All files of `device` by their path inside it."""
    return {
        f"{_FOLDER}/containerd.toml": _containerd(),
        f"{_FOLDER}/cni/10-bridge.conflist": _json(_cni(device)),
        f"{_FOLDER}/kubelet.yaml": _json(_kubelet(device, host)),
        f"{_FOLDER}/kube-proxy.yaml": _json(_proxy(device)),
        f"{_FOLDER}/resolv.conf": f"nameserver {DNS_ADDRESS}\n",
        f"{_FOLDER}/ca.crt": identity.authority,
        f"{_FOLDER}/node.crt": identity.certificate,
        f"{_FOLDER}/node.key": identity.key,
        f"{_FOLDER}/kubelet.kubeconfig": identity.kubelet_kubeconfig,
        f"{_FOLDER}/kube-proxy.kubeconfig": identity.proxy_kubeconfig,
    }


def services(device: DeviceSettings, programs: Path) -> dict[str, list[str]]:
    """The device's services and their command lines, in the order of their start."""
    kubelet = [
        str(programs / "kubelet"),
        f"--config={_FOLDER}/kubelet.yaml",
        f"--kubeconfig={_FOLDER}/kubelet.kubeconfig",
        "--root-dir=/var/lib/kubelet",
        f"--node-ip={device.address}",
        f"--hostname-override={device.name}",
    ]
    if device.edge:
        kubelet.append(f"--node-labels={EDGE_LABEL}")
    return {
        CONTAINERD: ["containerd", f"--config={_FOLDER}/containerd.toml"],
        "kubelet": kubelet,
        "kube-proxy": [str(programs / "kube-proxy"), f"--config={_FOLDER}/kube-proxy.yaml"],
    }


def _containerd() -> str:
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{_FOLDER}/cni"

[plugins."io.containerd.grpc.v1.cri".registry.mirrors."{IMAGE_REGISTRY}"]
endpoint = ["http://{IMAGE_REGISTRY}"]
"""


def _cni(device: DeviceSettings) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": device.pod_range}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/var/lib/cni/networks",
        },
    }
    return {"cniVersion": "0.4.0", "name": "edgewise", "plugins": [bridge]}


def _kubelet(device: DeviceSettings, host: Host) -> dict[str, Any]:
    """The device's share of the host is what is left after `systemReserved`.

    A device with a quota below 100 % is one of a slower core, not of a part of
    one: to Kubernetes, as on real boards, it has a whole core.
    A v1 kernel refuses a container's CPU quota above the device's own, so
    there containers get none (cpuCFSQuota) and the device's quota bounds all.
    """
    reserved = {"memory": str(max(0, host.memory_bytes - device.memory_bytes))}
    if device.quota_percent is not None:
        reserved["cpu"] = f"{max(0, host.cpus - ceil(device.quota_percent / 100)) * 1000}m"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{_FOLDER}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{_FOLDER}/node.crt",
        "tlsPrivateKeyFile": f"{_FOLDER}/node.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{device_group(device.name)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "cpuCFSQuota": not host.cgroup_v1,
        "systemReserved": reserved,
        "maxPods": MAX_PODS,
        "evictionPressureTransitionPeriod": "10s",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{_FOLDER}/resolv.conf",
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "makeIPTablesUtilChains": False,
        "nodeStatusUpdateFrequency": f"{device.status_seconds}s",
        "nodeLeaseDurationSeconds": device.lease_seconds,
    }


def _proxy(device: DeviceSettings) -> dict[str, Any]:
    """Connections that do not come from a pod of this device (`cni0`) are masqueraded.

    That lets the host reach Services through the hub.
    """
    unlimited = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{_FOLDER}/kube-proxy.kubeconfig"},
        "hostnameOverride": device.name,
        "detectLocalMode": "BridgeInterface",
        "detectLocal": {"bridgeInterface": "cni0"},
        "conntrack": unlimited,
        "nodePortAddresses": ["primary"],
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"

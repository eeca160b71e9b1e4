"""The devices do what real ones do: lose power, lose the network, hang, get hot, slow and full."""

import http.client
import json
import re
from collections.abc import Iterator

import psutil
import pytest

from testbed import Fleet, FleetError, wait_until
from testbed.hostroot import folder as host_root
from tests.fleet.pods import TestPod, apply, run_pod

HOST_FIGURES = {"/host": {"hostPath": {"path": "/run/edgewise-host", "type": "Directory"}}}


@pytest.fixture
def all_switched_on(fleet: Fleet) -> Iterator[None]:
    """Leaves every device as the next test wants to find it."""
    before = {device.name: device.settings for device in fleet.devices().values()}
    yield
    for name, settings in before.items():
        fleet.resume(name) if fleet.device(name).on else fleet.power_on(name)
        fleet.plug(name)
        if fleet.device(name).settings != settings and settings.quota_percent is not None:
            fleet.heat(name, settings.celsius)
            fleet.quota(name, settings.quota_percent)
    for name in before:
        fleet.wait_ready(name)


def test_every_node_is_ready_and_devices_carry_the_edge_label(fleet: Fleet) -> None:
    labelled = fleet.kubectl("get", "nodes", "--selector=edgewise.dev/edge=true", "--output=name").split()

    assert {"node/edge-1", "node/edge-2", "node/edge-3"} <= set(labelled)
    assert "node/hub" not in labelled
    for name in fleet.devices():
        fleet.wait_ready(name, seconds=60)


@pytest.mark.usefixtures("all_switched_on")
def test_power_cut_keeps_what_was_synced_loses_the_rest_and_brings_all_pods_back(fleet: Fleet, namespace: str) -> None:
    pod = run_pod(fleet, namespace, "edge-2", volumes={"/data": {"hostPath": {"path": "/srv/photos"}}})
    pod.shell("echo kept > /data/synced && sync -f /data/synced && echo lost > /data/unsynced")

    assert fleet.power_off("edge-2") == "edge-2 is off"
    assert fleet.power_off("edge-2") == "edge-2 is off already"
    assert fleet.power_on("edge-2") == "edge-2 is on and Ready"
    assert fleet.power_on("edge-2") == "edge-2 is on already"

    wait_until(lambda: pod.restarts() > 0 and pod.ready(), "the pod is back", seconds=60)
    assert pod.shell("cat /data/synced") == "kept\n"
    assert pod.shell("cat /data/unsynced 2>/dev/null || true") == ""
    pod.shell("rm -f /data/synced /data/unsynced")


@pytest.mark.usefixtures("all_switched_on")
def test_pulled_cable_cuts_a_device_off_and_leaves_its_pods_running(fleet: Fleet, namespace: str) -> None:
    pod = run_pod(fleet, namespace, "edge-2", script="exec python3 -m http.server 8000")
    address = pod.status()["podIP"]
    wait_until(lambda: answers(address, 8000), "the pod answers", seconds=20)

    fleet.unplug("edge-2")
    assert not answers(address, 8000)
    assert fleet.unplug("edge-2") == "edge-2 is unplugged already"

    fleet.plug("edge-2")
    wait_until(lambda: answers(address, 8000), "the pod answers again", seconds=20)
    assert pod.restarts() == 0


@pytest.mark.usefixtures("all_switched_on")
def test_device_that_hangs_answers_nobody_and_goes_on_where_it_was(fleet: Fleet, namespace: str) -> None:
    pod = run_pod(fleet, namespace, "edge-2", script="exec python3 -m http.server 8000")
    address = pod.status()["podIP"]
    wait_until(lambda: answers(address, 8000), "the pod answers", seconds=20)

    fleet.hang("edge-2")
    assert not answers(address, 8000)

    fleet.resume("edge-2")
    wait_until(lambda: answers(address, 8000), "the pod answers again", seconds=20)
    assert pod.restarts() == 0


def test_added_device_is_ready_with_its_images_and_leaves_with_its_node(fleet: Fleet, namespace: str) -> None:
    assert fleet.add("edge-added", quota_percent=50) == "edge-added is added and Ready"
    assert fleet.add("edge-added") == "edge-added is in the fleet already"
    try:
        run_pod(fleet, namespace, "edge-added")
    finally:
        assert fleet.remove("edge-added") == "edge-added is removed"

    assert fleet.remove("edge-added") == "edge-added is not in the fleet"
    assert "edge-added" not in fleet.kubectl("get", "nodes", "--output=name")


def test_unknown_device_is_refused_by_name(fleet: Fleet) -> None:
    with pytest.raises(FleetError, match="no device edge-99"):
        fleet.fill("edge-99", 50)


@pytest.mark.usefixtures("all_switched_on")
def test_heat_shows_in_the_thermal_zone_that_pods_see(fleet: Fleet, namespace: str) -> None:
    pod = run_pod(fleet, namespace, "edge-1", volumes=HOST_FIGURES)

    fleet.heat("edge-1", 91.5)

    assert pod.shell("cat /host/sys/class/thermal/thermal_zone0/temp") == "91500\n"
    assert pod.shell("cat /host/sys/class/thermal/thermal_zone0/type") == "x86_pkg_temp\n"


@pytest.mark.usefixtures("all_switched_on")
def test_quota_slows_a_real_benchmark_down(fleet: Fleet, namespace: str) -> None:
    pod = run_pod(fleet, namespace, "edge-3")
    fleet.quota("edge-3", 80)
    fast = events_per_second(pod)

    fleet.quota("edge-3", 20)
    slow = events_per_second(pod)

    assert 0.05 < slow / fast < 0.5, f"{slow:.0f} events/s at 20 %, {fast:.0f} at 80 %"


@pytest.mark.usefixtures("all_switched_on")
def test_figures_are_those_of_one_device(fleet: Fleet, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(host_root("edge-3") / "proc"))
    run_pod(fleet, namespace, "edge-3", script="while :; do :; done")

    wait_until(lambda: psutil.cpu_percent(interval=1) > 80, "edge-3 is busy by its own measure", seconds=30)
    assert psutil.virtual_memory().total == fleet.device("edge-3").settings.memory_bytes
    assert 0 < psutil.virtual_memory().available < psutil.virtual_memory().total
    assert psutil.boot_time() > 0


@pytest.mark.usefixtures("all_switched_on")
def test_full_disk_refuses_writes_until_it_is_freed(fleet: Fleet, namespace: str) -> None:
    pod = run_pod(fleet, namespace, "edge-2", volumes={"/data": {"emptyDir": {}}})

    fleet.fill("edge-2", 100)
    with pytest.raises(FleetError, match=r"exit code|No space"):
        pod.shell("head -c 50000000 /dev/zero > /data/big")

    fleet.fill("edge-2", 0)
    wait_until(lambda: not has_pressure(fleet, "edge-2"), "edge-2 has no disk pressure", seconds=90)
    roomy = run_pod(fleet, namespace, "edge-2", name="roomy", volumes={"/data": {"emptyDir": {}}})
    assert roomy.shell("head -c 50000000 /dev/zero > /data/big && wc -c < /data/big").strip() == "50000000"


def test_claim_keeps_its_data_over_a_pods_restart(fleet: Fleet, namespace: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }
    apply(fleet, claim)
    volumes = {"/data": {"persistentVolumeClaim": {"claimName": "data"}}}
    first = run_pod(fleet, namespace, "hub", name="first", volumes=volumes)
    first.shell("echo remembered > /data/note")
    first.delete()

    second = run_pod(fleet, namespace, "hub", name="second", volumes=volumes)

    assert second.shell("cat /data/note") == "remembered\n"


def test_device_resolves_and_reaches_a_service_on_another(fleet: Fleet, namespace: str) -> None:
    run_pod(fleet, namespace, "edge-1", name="web", script="exec python3 -m http.server 8000")
    fleet.kubectl("expose", "pod", "web", "--namespace", namespace, "--port=80", "--target-port=8000")
    pod = run_pod(fleet, namespace, "edge-3", name="client")
    url = f"http://web.{namespace}.svc.cluster.local/"
    ask = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=5).status)"

    wait_until(lambda: pod.execute("python3", "-c", ask) == "200\n", "the Service answers", seconds=30)


def test_host_reaches_pods_and_services(fleet: Fleet, namespace: str) -> None:
    pod = run_pod(fleet, namespace, "edge-1", name="web", script="exec python3 -m http.server 8000")
    fleet.kubectl("expose", "pod", "web", "--namespace", namespace, "--port=80", "--target-port=8000")
    service = fleet.kubectl("get", "service", "web", "--namespace", namespace, "--output=jsonpath={.spec.clusterIP}")

    wait_until(lambda: answers(pod.status()["podIP"], 8000), "the pod answers the host", seconds=20)
    wait_until(lambda: answers(service, 80), "the Service answers the host", seconds=20)


def answers(address: str, port: int) -> bool:
    """Whether a web server in the fleet answers within a second."""
    assert address.startswith(("198.18.", "198.19."))
    connection = http.client.HTTPConnection(address, port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def events_per_second(pod: TestPod) -> float:
    """What sysbench makes of the pod's CPU."""
    said = pod.execute("sysbench", "cpu", "--threads=1", "--time=3", "run")
    found = re.search(r"events per second:\s*([\d.]+)", said)
    assert found, said
    return float(found[1])


def has_pressure(fleet: Fleet, name: str) -> bool:
    """Whether the device's Node has DiskPressure or the taint of it."""
    node = json.loads(fleet.kubectl("get", "node", name, "--output=json"))
    conditions = {condition["type"]: condition["status"] for condition in node["status"]["conditions"]}
    taints = [taint["key"] for taint in node["spec"].get("taints", ())]
    return conditions["DiskPressure"] == "True" or "node.kubernetes.io/disk-pressure" in taints

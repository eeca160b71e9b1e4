"""Installs Edgewise into the running fleet, as a user would: by Helm, from this checkout's chart.

`python -m testbed.install` is what `make up` and `make demo` run, and the tests' fixture calls `install`. A second
call upgrades, and restarts only what runs an older image.
"""

import json
import sys
from typing import Any, Final

from testbed import images, paths
from testbed.commands import run
from testbed.errors import FleetError
from testbed.fleet import Fleet
from testbed.progress import say, step
from testbed.waiting import wait_until

NAMESPACE: Final = "edgewise-system"
RELEASE: Final = "edgewise"
READY_SECONDS: Final = 240

HEARD_FROM: Final = frozenset({"Fresh", "TooHot", "Maintenance", "SpoolFull", "Pressure"})
"""The reasons of a device's readiness that only a fresh report can give, good or bad."""


def install(fleet: Fleet, *settings: str) -> None:
    """Install or upgrade the release and wait until every device reports.

    `settings` are more `--set` assignments of the chart's values. Raises `FleetError` when it is not up in time.
    """
    with step("install Edgewise by Helm"):
        fleet.kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(paths.CHECKOUT / "crds"))
        archives = {image.name: images.image_id(image.archive) for image in images.built(["operator", "agent"])}
        restarts = [
            f"{part}.podAnnotations.edgewise\\.dev/image={archives[name]}"
            for part, name in (("operator", "operator"), ("gateway", "operator"), ("agent", "agent"))
        ]
        _helm(
            *("upgrade", RELEASE, str(paths.CHECKOUT / "charts" / "edgewise"), "--install", "--create-namespace"),
            *("--values", str(paths.SOURCES / "edgewise-values.yaml"), "--timeout", f"{READY_SECONDS}s"),
            *(word for one in restarts for word in ("--set-string", one)),
            *(word for one in settings for word in ("--set", one)),
        )
        for part in ("operator", "gateway"):  # helm's own --wait would wait for the agents of devices that are off
            target = f"deployment/edgewise-{part}"
            patience = f"--timeout={READY_SECONDS}s"
            fleet.kubectl("rollout", "status", target, "--namespace", NAMESPACE, patience, seconds=READY_SECONDS)
    with step("wait for every device's report") as waiting:
        devices = wait_until(lambda: _reporting(fleet), "reports of all devices", seconds=READY_SECONDS)
        waiting.note = ", ".join(devices)


def uninstall(fleet: Fleet) -> None:
    """Remove the release; the results' volume and the kinds stay. Does nothing when there is none."""
    if RELEASE in _helm("list", "--short", "--all"):
        _helm("uninstall", RELEASE, "--wait", "--timeout", f"{READY_SECONDS}s")


def edge_nodes(fleet: Fleet) -> list[dict[str, Any]]:
    """The EdgeNodes of the fleet's devices, as the API holds them."""
    items: list[dict[str, Any]] = json.loads(fleet.kubectl("get", "edgenodes", "--output=json"))["items"]
    return [node for node in items if node["metadata"]["name"] in fleet.devices()]


def _reporting(fleet: Fleet) -> list[str]:
    """The devices' names with their scores, once every device that is on reports and has been benchmarked."""
    on_line = [device for device in fleet.status() if device.power == "on" and device.cable == "plugged"]
    expected = {device.name for device in on_line} - {"hub"}
    reports = {node["metadata"]["name"]: node.get("status", {}) for node in edge_nodes(fleet)}
    for name in expected:
        ready = next((one for one in reports.get(name, {}).get("conditions", ()) if one["type"] == "Ready"), None)
        if ready is None or ready["reason"] not in HEARD_FROM or "benchmark" not in reports[name]:
            return []
    return [f"{name} {reports[name]['score']:.1f}" for name in sorted(expected)]


def _helm(*arguments: str) -> str:
    environment = {"KUBECONFIG": str(paths.KUBECONFIG)}
    return run(paths.BIN / "helm", *arguments, "--namespace", NAMESPACE, environment=environment)


def main() -> None:
    """The command `python -m testbed.install`."""
    try:
        install(Fleet())
    except FleetError as error:
        sys.exit(f"fleet: {error}")
    say("Edgewise is installed: kubectl get edgenodes")


if __name__ == "__main__":
    main()

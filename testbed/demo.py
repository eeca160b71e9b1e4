"""`make demo`: the main job on real input. Applies the surveillance example, shows it move, prints its checked CSV."""

import hashlib
import json
import sys
import time
from typing import Any, Final

from testbed import paths
from testbed.errors import FleetError
from testbed.fleet import Fleet
from testbed.install import edge_nodes
from testbed.progress import say
from testbed.results import results
from testbed.waiting import wait_until

NAMESPACE: Final = "demo"
JOB: Final = "faces"
EXAMPLE: Final = "examples/surveillance"
JOB_SECONDS: Final = 300
REPORT_SECONDS: Final = 60
ROWS_SHOWN: Final = 12

NEXT = """
Try next:
  .testbed/bin/fleet heat {device} 95     heat the device that won, and run `make demo` again: another one wins
  .testbed/bin/kubectl get edgenodes      the devices and their scores
  .testbed/bin/kubectl -n {namespace} describe edgejob {job}
  .testbed/bin/fleet power-off edge-1     cut a device's power (power-on brings it back)
  make down                               end the fleet"""


def demo(fleet: Fleet) -> None:
    """Run the example once. Raises `FleetError` when the job does not succeed or a checksum differs."""
    wait_until(lambda: _heat_is_known(fleet), "reports of the devices' temperatures", seconds=REPORT_SECONDS)
    say("\nThe devices:\n")
    say(fleet.kubectl("get", "edgenodes"))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    fleet.kubectl("apply", "--filename", "-", stdin=json.dumps(namespace))
    fleet.kubectl("delete", "edgejob", JOB, "--namespace", NAMESPACE, "--ignore-not-found")
    say(f"kubectl apply -k {EXAMPLE}")
    say(fleet.kubectl("apply", "--kustomize", str(paths.CHECKOUT / EXAMPLE)))
    job = _follow(fleet)
    status = job["status"]
    if status["phase"] != "Succeeded":
        raise FleetError(f"the job has ended as {status['phase']}: {_message(status)}")
    _fetch(fleet, status)
    say(NEXT.format(device=status["node"], namespace=NAMESPACE, job=JOB))


def _heat_is_known(fleet: Fleet) -> bool:
    """Whether the last reports show which devices are too hot: they come every ten seconds."""
    limits = {
        node["metadata"]["name"]: (node["spec"]["thermal"]["criticalCelsius"], node.get("status", {}))
        for node in edge_nodes(fleet)
    }
    for device in fleet.status():
        if device.name not in limits or device.celsius is None:
            continue
        critical, status = limits[device.name]
        reasons = {one["reason"] for one in status.get("conditions", ()) if one["type"] == "Ready"}
        if ("TooHot" in reasons) != (device.celsius >= critical):
            return False
    return True


def _follow(fleet: Fleet) -> dict[str, Any]:
    """Tell each change of the job until it has finished."""
    began = time.monotonic()
    told: list[str] = []

    def tell(line: str) -> None:
        if line not in told:
            told.append(line)
            say(f"  {time.monotonic() - began:5.1f} s  {line}")

    def finished() -> dict[str, Any]:
        found = fleet.kubectl("get", "edgejob", JOB, "--namespace", NAMESPACE, "--output=json")
        job: dict[str, Any] = json.loads(found)
        status = job.get("status", {})
        if status.get("attempts"):
            tell(f"why there: {status['placement']['message']}")
        tell(f"{status.get('phase') or 'Pending':<11} {status.get('node') or '-':<8} {_message(status)}")
        return job if "completionTime" in status else {}

    return wait_until(finished, f"the end of the job {JOB}", seconds=JOB_SECONDS)


def _message(status: dict[str, Any]) -> str:
    """What the job's conditions say now."""
    messages = [one["message"] for one in status.get("conditions", ()) if one["status"] == "True" and one["message"]]
    return messages[0] if messages else ""


def _fetch(fleet: Fleet, status: dict[str, Any]) -> None:
    """Fetch each file, check it against status, and show its first rows."""
    with results(fleet, NAMESPACE) as reader:
        for file in status["results"]["files"]:
            content = reader.file(NAMESPACE, JOB, file["name"])
            digest = hashlib.sha256(content).hexdigest()
            if digest != file["sha256"]:
                raise FleetError(f"{file['name']}: its SHA-256 is {digest}, status.results says {file['sha256']}")
            size = f"{len(content)} bytes, {file.get('rows', '?')} rows"
            say(f"\n{file['name']}: {size}, its SHA-256 is the one in status: {digest}\n")
            lines = content.decode(errors="replace").splitlines()
            say("\n".join(f"  {line}" for line in lines[:ROWS_SHOWN]))
            if len(lines) > ROWS_SHOWN:
                say(f"  … and {len(lines) - ROWS_SHOWN} more")


def main() -> None:
    """The command `python -m testbed.demo`."""
    try:
        demo(Fleet())
    except FleetError as error:
        sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()

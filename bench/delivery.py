"""How long a person waits: from `kubectl apply` of an app and a job to its CSV, read and checked.

Everything is done as the README tells people to: kubectl applies and waits, the gateway is asked with a token. Warm,
the device that wins has the image. Cold, it has not: it fetches it from a registry over the fleet's network and
unpacks it, within its own CPU bound.
"""

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any, Final

from edgewise.api import API_VERSION

from bench import contestants
from bench.cluster import Cluster
from bench.consumption import edge_job_writes, write_counts
from bench.contestants import NAMESPACE
from bench.errors import BenchError
from bench.rounds import Rounds
from bench.scale import Scale
from testbed import Fleet, images, registry
from testbed.progress import step
from testbed.results import Results, results

PATIENCE: Final = "300s"
FILE: Final = "squares.csv"
SCRIPT: Final = f"""
import csv, os
with open(os.path.join(os.environ["EDGEWISE_OUTPUTS"], "{FILE}"), "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["number", "square"])
    rows.writerows((number, number * number) for number in range(1000))
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What this part works with."""

    cluster: Cluster
    fleet: Fleet
    scale: Scale


async def measure(delivery: Delivery, rounds: Rounds) -> None:
    """All rounds. Raises `BenchError` when a file is not the one that the job's status tells of."""
    await contestants.prepare(delivery.cluster)
    fleet = delivery.fleet
    [archive] = [image.archive for image in images.built(["python"])]
    with results(fleet, NAMESPACE) as reader:
        await asyncio.to_thread(_once, fleet, reader, "first", f"{images.REGISTRY}/python:dev")  # not counted
        for number in range(1, delivery.scale.rounds + 1):
            with step(f"round {number}: apply to CSV, image on the device") as current:
                before = await write_counts(delivery.cluster)
                image = f"{images.REGISTRY}/python:dev"
                seconds, node = await asyncio.to_thread(_once, fleet, reader, f"warm-{number}", image)
                made = await write_counts(delivery.cluster)
                made.subtract(before)
                rounds.add(apply_to_csv_s=seconds, writes_per_job_with_csv=edge_job_writes(made))
                current.note = f"{seconds:.1f} s on {node}"
            with (
                registry.serving(archive, "bench/python") as served,
                step(f"  image of {served.compressed_bytes / 1e6:.0f} MB in a registry") as current,
            ):
                seconds, node = await asyncio.to_thread(_once, fleet, reader, f"cold-{number}", served.reference)
                rounds.add(apply_to_csv_cold_s=seconds)
                current.note = f"{seconds:.1f} s on {node}"
            await contestants.clear_jobs(delivery.cluster)
            images.remove([served.reference, served.image_id], fleet.device(node).socket())
    await contestants.prepare(delivery.cluster)


def _once(fleet: Fleet, reader: Results, name: str, image: str) -> tuple[float, str]:
    """Apply, wait, read and check; how long that took, in seconds, and where the job ran."""
    manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": _manifests(name, image)})
    began = time.monotonic()
    fleet.kubectl("apply", "--namespace", NAMESPACE, "--filename=-", stdin=manifests)
    waiting = ("wait", "--for=condition=Complete", f"edgejob/{name}", "--namespace", NAMESPACE, f"--timeout={PATIENCE}")
    fleet.kubectl(*waiting, seconds=400)
    content = reader.file(NAMESPACE, name, FILE)
    digest = hashlib.sha256(content).hexdigest()
    seconds = time.monotonic() - began
    status = json.loads(fleet.kubectl("get", "edgejob", name, "--namespace", NAMESPACE, "--output=json"))["status"]
    told = {file["name"]: file["sha256"] for file in status["results"]["files"]}
    if told.get(FILE) != digest:
        raise BenchError(f"{FILE} of {name}: its SHA-256 is {digest}, its status says {told.get(FILE)}")
    return seconds, status["node"]


def _manifests(name: str, image: str) -> list[dict[str, Any]]:
    """What a person applies: the script, the app and the job."""
    code = f"{name}-code"
    app = {
        "image": image,
        "source": {"configMap": {"name": code}, "path": "/app"},
        "command": ["python3", "/app/main.py"],
        "outputs": {"include": ["*.csv"]},
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "terminationGracePeriodSeconds": 1,
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": code}, "data": {"main.py": SCRIPT}},
        {"apiVersion": API_VERSION, "kind": "EdgeApp", "metadata": {"name": name}, "spec": app},
        {"apiVersion": API_VERSION, "kind": "EdgeJob", "metadata": {"name": name}, "spec": {"appRef": {"name": name}}},
    ]

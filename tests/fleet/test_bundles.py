"""A folder of the user's own over a base image: pushed once, fetched once per device, there without the gateway."""

import io
import json
import tarfile

import pytest

from testbed import Fleet, wait_until
from testbed.results import results
from tests.fleet.work import make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")

MAIN = """
import os, pathlib, sys
sys.path.insert(0, os.path.dirname(__file__))
from lib import counting
try:
    open(__file__, "a")
except OSError:
    refused = "yes"
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
(folder / "counted.csv").write_text(f"n,refused\\n{counting.N},{refused}\\n")
"""


def _tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def test_a_pushed_folder_runs_and_runs_again_without_the_gateway(fleet: Fleet, namespace: str) -> None:
    folder = _tar({"main.py": MAIN.encode(), "lib/counting.py": b"N = 42\n"})
    with results(fleet, namespace, role="edit") as gateway:
        path = f"/v1/namespaces/{namespace}/bundles"
        answer = gateway.request(path, method="PUT", body=folder, **{"Content-Encoding": "gzip"})
        assert answer.status == 201, answer.data
        digest = json.loads(answer.data)["digest"]
        assert gateway.request(path, method="PUT", body=folder, **{"Content-Encoding": "gzip"}).status == 200
        source = {"bundle": {"digest": digest}, "path": "/app"}
        make_app(fleet, namespace, "counter", "unused", source=source)
        job = start(fleet, namespace, "first", "counter")
        node = job.until("Complete")["node"]
        assert gateway.file(namespace, "first", "counted.csv") == b"n,refused\n42,yes\n"
    system = ("--namespace", "edgewise-system")
    fleet.kubectl("scale", *system, "deployment/edgewise-gateway", "--replicas=0")
    try:
        wait_until(
            lambda: not fleet.kubectl("get", "pods", *system, "-l=app.kubernetes.io/component=gateway", "-o=name"),
            "the gateway is gone",
            seconds=90,
        )
        placement = {"nodeSelector": {"kubernetes.io/hostname": node}}
        again = start(fleet, namespace, "second", "counter", placement=placement)
        assert again.until_phase("Collecting")["node"] == node
    finally:
        fleet.kubectl("scale", *system, "deployment/edgewise-gateway", "--replicas=1")
    assert again.until("Complete")["results"]["files"][0]["name"] == "counted.csv"

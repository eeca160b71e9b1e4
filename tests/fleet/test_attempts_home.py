"""What comes home besides the results: logs and files of attempts that failed, and files of apps that still run."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from testbed import Fleet, wait_until
from testbed.results import results
from tests.fleet.work import make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")

FAILS_FIRST = """
import os, pathlib, sys
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
if os.environ["EDGEWISE_ATTEMPT"] == "1":
    (folder / "half.csv").write_text("a\\n1\\n")
    print("the camera does not answer", flush=True)
    sys.exit(3)
(folder / "whole.csv").write_text("a\\n1\\n2\\n")
print("all done", flush=True)
"""

CLOSES_AND_SLEEPS = """
import os, pathlib, time
pathlib.Path(os.environ["EDGEWISE_OUTPUTS"], "early.csv").write_text("a\\n" + "1\\n" * 1000)
time.sleep(600)
"""


def test_a_failure_is_understood_when_its_pod_is_gone(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "moody", FAILS_FIRST)
    job = start(fleet, namespace, "moody", "moody", retry={"maxAttempts": 2, "backoffSeconds": 1})
    status = job.until("Complete")
    assert [one["outcome"] for one in status["attempts"]] == ["Failed", "Succeeded"]
    fleet.kubectl("delete", "pods", "--namespace", namespace, "--selector=edgewise.dev/job=moody")
    assert not job.pods()
    base = f"/v1/namespaces/{namespace}/jobs/moody"
    with results(fleet, namespace) as reader:

        def verdicts() -> list[tuple[int, str]]:
            listed = json.loads(reader.request(f"{base}/attempts").data)["attempts"]
            return sorted((one["number"], one["verdict"]) for one in listed)

        wait_until(
            lambda: verdicts() == [(1, "Superseded"), (2, "Published")], "both attempts are home and judged", seconds=90
        )
        assert reader.request(f"{base}/attempts/1/files/half.csv").data == b"a\n1\n"
        said = reader.request(f"{base}/attempts/1/logs", Accept="text/plain").data
        assert b"the camera does not answer" in said
        assert b"all done" in reader.request(f"{base}/attempts/2/logs", Accept="text/plain").data
        assert [file["name"] for file in reader.listing(namespace, "moody")["files"]] == ["whole.csv"]
        with zipfile.ZipFile(io.BytesIO(reader.request(f"{base}/archive.zip").data)) as archive:
            assert archive.namelist() == ["whole.csv"]
            assert archive.read("whole.csv") == b"a\n1\n2\n"


def test_a_finished_file_goes_ahead_while_its_app_runs(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "closer", CLOSES_AND_SLEEPS, outputs={"collect": "OnClose"})
    job = start(fleet, namespace, "closer", "closer")
    job.until_phase("Running")
    [pod] = job.pods()
    staged = f"staging/{job.read()['metadata']['uid']}/{pod['metadata']['uid']}"

    def ahead() -> list[Path]:
        volumes = (fleet.device("hub").root() / "var/lib/edgewise-volumes").glob("pvc-*")
        return [offset for volume in volumes for offset in (volume / staged).glob("*.offset")]

    wait_until(ahead, "early.csv is on the results volume", seconds=120)
    assert job.phase() == "Running"
    fleet.kubectl(
        "patch", "edgejob", "closer", "--namespace", namespace, "--type=merge", '--patch={"spec":{"cancel":true}}'
    )
    assert job.until("Finished")["phase"] == "Cancelled"
    with results(fleet, namespace) as reader:
        path = f"/v1/namespaces/{namespace}/jobs/closer/attempts/1/files/early.csv"
        wait_until(lambda: reader.request(path).status == 200, "what it wrote is under its attempt", seconds=90)

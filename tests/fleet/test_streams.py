"""EdgeStreams on the fleet: files come home while their app runs, whatever becomes of the app and of its device."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pytest

from testbed import Fleet, wait_until
from testbed.results import Results, results
from tests.fleet.faults import only_on, put_right
from tests.fleet.pods import apply
from tests.fleet.work import Job, make_app

pytestmark = pytest.mark.usefixtures("edgewise")

DEVICE: Final = "edge-2"
HOT: Final = "edge-3"
REPLACED_AFTER_SECONDS: Final = 10
"""the shortest that a stream may say"""

HEADER: Final = "run,node,number\n"
WRITES: Final = f"""
import os, pathlib, time
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
said = os.environ["EDGEWISE_JOB"] + "," + os.environ["EDGEWISE_NODE"]
for number in range(1, 100_000):
    part = folder / (str(number) + ".part")
    part.write_text({HEADER!r} + said + "," + str(number) + "\\n")
    part.rename(part.with_suffix(".csv"))
    time.sleep(1)
"""
"""Closes a file each second, named by its number."""

EXITS: Final = f"""
import os, pathlib, sys
said = os.environ["EDGEWISE_JOB"] + "," + os.environ["EDGEWISE_NODE"]
pathlib.Path(os.environ["EDGEWISE_OUTPUTS"], "1.csv").write_text({HEADER!r} + said + ",1\\n")
sys.exit(3)
"""


@dataclass(frozen=True)
class Stream:
    """An EdgeStream of a test."""

    fleet: Fleet
    namespace: str
    name: str

    def status(self) -> dict[str, Any]:
        """Its status, empty before anyone has looked."""
        text = self.fleet.kubectl("get", "edgestream", self.name, "--namespace", self.namespace, "--output=json")
        status: dict[str, Any] = json.loads(text).get("status", {})
        return status

    def run(self, number: int) -> Job:
        """Its run of that number."""
        return Job(self.fleet, self.namespace, f"{self.name}-{number}")

    def until(self, what: str, condition: Callable[[dict[str, Any]], object], seconds: float) -> dict[str, Any]:
        """Wait until `condition` says something true of its status; the status then."""

        def looked() -> dict[str, Any]:
            status = self.status()
            return status if condition(status) else {}

        return wait_until(looked, f"{self.name}: {what} ({self.status()})", seconds=seconds)

    def until_running(self, number: int, seconds: float = 60) -> dict[str, Any]:
        """Wait until the run of that number runs; the status then."""
        name = self.run(number).name
        return self.until(f"{name} runs", lambda now: (now.get("run"), now.get("phase")) == (name, "Running"), seconds)

    def edit(self, **spec: Any) -> None:
        """Change fields of its spec."""
        patch = json.dumps({"spec": spec})
        self.fleet.kubectl("patch", "est", self.name, "--namespace", self.namespace, "--type=merge", f"--patch={patch}")

    def files(self, reader: Results) -> dict[str, dict[str, Any]]:
        """What has come home of it, by name."""
        answer = reader.request(f"{self._path}/files?limit=10000")
        assert answer.status == 200, answer.data
        return {file["name"]: file for file in json.loads(answer.data)["files"]}

    def until_home(
        self, reader: Results, what: str, condition: Callable[[dict[str, Any]], object], seconds: float
    ) -> dict[str, dict[str, Any]]:
        """Wait until `condition` says something true of what has come home; that, by name."""

        def listed() -> dict[str, dict[str, Any]]:
            files = self.files(reader)
            return files if condition(files) else {}

        return wait_until(listed, f"{self.name}: {what} is home", seconds=seconds)

    def file(self, reader: Results, name: str) -> bytes:
        """The content of one file."""
        answer = reader.request(f"{self._path}/files/{name}")
        assert answer.status == 200, answer.data
        return answer.data

    def archive(self, reader: Results) -> set[str]:
        """The names in the tar of all files."""
        with tarfile.open(fileobj=io.BytesIO(reader.request(f"{self._path}/archive.tar").data)) as tar:
            return set(tar.getnames())

    @property
    def _path(self) -> str:
        return f"/v1/namespaces/{self.namespace}/streams/{self.name}"


def make_stream(fleet: Fleet, namespace: str, name: str, app: str, **template: Any) -> Stream:
    """An EdgeStream of that app; `template` is more of its runs' spec."""
    spec = {"jobTemplate": {"spec": {"appRef": {"name": app}} | template}}
    metadata = {"name": name, "namespace": namespace}
    apply(fleet, {"apiVersion": "edgewise.dev/v1alpha1", "kind": "EdgeStream", "metadata": metadata, "spec": spec})
    return Stream(fleet, namespace, name)


def of_run(files: dict[str, Any], stream: Stream, number: int) -> set[str]:
    """Those of the files that a run brought home."""
    return {name for name in files if name.startswith(f"{stream.run(number).name}/")}


def written(stream: Stream, number: int, node: str, name: str) -> bytes:
    """What the app wrote into that file."""
    said = name.rpartition("/")[2].removesuffix(".csv")
    return f"{HEADER}{stream.run(number).name},{node},{said}\n".encode()


def test_a_stream_goes_on_and_keeps_its_files(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "writes", WRITES)
    stream = make_stream(
        fleet,
        namespace,
        "scan",
        "writes",
        placement=only_on(DEVICE, fleet),
        disconnect={"replaceAfterSeconds": REPLACED_AFTER_SECONDS},
    )
    assert stream.until_running(1)["device"] == DEVICE
    with put_right(fleet, DEVICE), results(fleet, namespace) as reader:
        early = stream.until_home(reader, "a file of the run", bool, seconds=60)
        assert stream.run(1).phase() == "Running"
        for name in early:
            assert stream.file(reader, name) == written(stream, 1, DEVICE, name)
        status = stream.until("its lag is told", lambda now: "lagSeconds" in now, seconds=30)
        assert status["lagSeconds"] <= 60
        assert status["lastFileTime"]
        columns, row = fleet.kubectl("get", "est", "scan", "--namespace", namespace).splitlines()
        shown = dict(zip(columns.split(), row.split(), strict=True))
        assert (shown["DEVICE"], shown["RUN"], shown["RESTARTS"], shown["READY"]) == (DEVICE, "1", "0", "True"), row
        assert shown["LAG"].isdigit()

        fleet.power_off(DEVICE)
        moved = stream.until_running(2, seconds=90)
        assert moved["device"] != DEVICE
        assert moved["restarts"] == 1
        left = of_run(stream.files(reader), stream, 1)
        assert left >= early.keys()
        fleet.power_on(DEVICE, wait=False)

        stream.edit(suspend=True)
        stream.until("nothing runs", lambda now: now.get("phase") == "Suspended", seconds=60)
        assert stream.run(2).phase() in {"Collecting", "Cancelled"}
        files = stream.until_home(reader, "run 2", lambda files: of_run(files, stream, 2), seconds=60)
        for name in of_run(files, stream, 2):
            assert stream.file(reader, name) == written(stream, 2, moved["device"], name)
        stream.edit(suspend=False)
        stream.until_running(3)

        stream.edit(jobTemplate={"spec": {"env": [{"name": "EDITED", "value": "yes"}]}})
        edited = stream.until_running(4)
        assert edited["restarts"] == 1, "what was asked for is no restart"
        [pod] = stream.run(4).pods()
        assert {"name": "EDITED", "value": "yes"} in pod["spec"]["containers"][0]["env"]
        files = stream.until_home(
            reader, "the rest of run 1", lambda files: of_run(files, stream, 1) > left, seconds=90
        )
        assert files.keys() <= stream.archive(reader)

        fleet.kubectl("delete", "edgestream", "scan", "--namespace", namespace)
        pods = ("get", "pods", "--namespace", namespace, "--output=name")
        wait_until(lambda: not fleet.kubectl(*pods).split(), "its pods are gone", seconds=60)
        assert stream.files(reader).keys() >= files.keys(), "the files of a stream that is gone"


def test_an_app_that_exits_starts_again_after_a_pause(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "exits", EXITS)
    stream = make_stream(fleet, namespace, "retry", "exits")
    waits = stream.until("it waits", lambda now: now.get("nextRunAt"), seconds=60)
    assert (waits["phase"], waits["run"]) == ("Restarting", "retry-1")
    stream.until("it has started again", lambda now: now.get("runNumber") == 2 and now.get("nextRunAt"), seconds=60)
    first, second = (stream.run(number) for number in (1, 2))
    ended = first.status()["attempts"][0]
    assert (ended["outcome"], ended["exitCode"]) == ("Failed", 3)
    made_at = datetime.fromisoformat(second.read()["metadata"]["creationTimestamp"])
    pause = made_at - datetime.fromisoformat(ended["finishedAt"])
    assert 10 <= pause.total_seconds() < 20
    assert stream.status()["restarts"] == 1
    with results(fleet, namespace) as reader:
        files = stream.until_home(reader, "both runs", {"retry-1/1.csv", "retry-2/1.csv"}.issubset, seconds=60)
        assert files["retry-1/1.csv"]["rows"] == 1
        for number, run in enumerate((first, second), start=1):
            node = run.status()["attempts"][0]["node"]
            assert stream.file(reader, f"{run.name}/1.csv") == written(stream, number, node, "1.csv")


def test_a_stream_leaves_a_device_that_gets_hot(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "writes", WRITES)
    celsius = fleet.device(HOT).settings.celsius
    stream = make_stream(fleet, namespace, "warm", "writes", placement=only_on(HOT, fleet))
    assert stream.until_running(1)["device"] == HOT
    fleet.heat(HOT, 95)
    try:
        moved = stream.until_running(2)
    finally:
        fleet.heat(HOT, celsius)
    assert moved["device"] != HOT
    assert moved["restarts"] == 1
    assert stream.run(1).status()["attempts"][0]["reason"] == "Hot"
    with results(fleet, namespace) as reader:
        stream.until_home(reader, "run 1", lambda files: of_run(files, stream, 1), seconds=60)

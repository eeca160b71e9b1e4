"""Results on their way home: power cuts, a cable cut for minutes, a gateway restored, a full volume, a full spool.

Nothing that was acknowledged is ever missing or altered. For these tests the gateway has a small volume of its own, the
spools are small, and uploads are slow, so that they can be met at a certain byte. From the first test to the last one
device is cut off amid an upload.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from edgewise_agent.uploader import CHUNK_BYTES
from edgewise_agent.wire import CSI_DRIVER
from msgspec import json

from testbed import Fleet, wait_until
from testbed.install import NAMESPACE
from testbed.results import Results, results
from tests.figures import Figures, Tally
from tests.fleet.faults import (
    OUTPUTS,
    WRITER,
    check_published,
    expected,
    gateway_stopped,
    now,
    pinned,
    put_right,
    ready_reasons,
    received_bytes,
    wait_fresh,
)
from tests.fleet.homecoming import (
    FILES,
    MIB,
    SIZE,
    attempt_file,
    attempt_files,
    attempts,
    empty_record,
    live_volume,
    pod_with_volume,
    send,
    slow_uploads,
    until_ended,
)
from tests.fleet.pods import fresh_namespace
from tests.fleet.volume import ResultsVolume, Upload
from tests.fleet.work import Job, make_app, start

CUT_OFF: Final = "edge-2"
FIRST: Final = "edge-1"
SECOND: Final = "edge-3"
LONGEST_WAIT_SECONDS: Final = 60.0
"""the cap of the agent's back-off"""
LONGEST_BEFORE_SECONDS: Final = 32.0
"""the longest that it waits before the cap is reached"""
WRITTEN_AT_ONCE: Final = MIB // 2
"""what the gateway holds back in memory, and a power cut may cost"""


@pytest.fixture(scope="module")
def volume(fleet: Fleet, edgewise: None) -> Iterator[ResultsVolume]:
    """The results volume, while uploads are slow."""
    with slow_uploads(fleet) as made:
        yield made


@dataclass(frozen=True)
class CutOff:
    """An upload whose device has lost its cable amid it, and how many bytes had arrived then."""

    upload: Upload
    at: datetime
    arrived: int


@pytest.fixture(scope="module", autouse=True)
def cut_off(fleet: Fleet, volume: ResultsVolume) -> Iterator[CutOff]:
    """A device without cable from before the first test until after the last."""
    with fresh_namespace(fleet) as namespace, put_right(fleet, CUT_OFF):
        make_app(fleet, namespace, "writer", WRITER, outputs=OUTPUTS)
        upload = volume.upload(send(fleet, namespace, CUT_OFF))
        until_ended(upload.job)
        upload.wait_arrived(2 * MIB)
        fleet.unplug(CUT_OFF)
        yield CutOff(upload, now(), upload.arrived())


STEADY = """
import os, pathlib, time
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
if os.environ["EDGEWISE_ATTEMPT"] == "1":
    with (folder / "synced.csv").open("w") as file:
        file.write("n\\n" * 10000)
        file.flush()
        os.fsync(file.fileno())
    with (folder / "unsynced.csv").open("w") as file:
        for number in range(10**7):
            file.write(f"{number:07}\\n")
            file.flush()
            time.sleep(0.001)
(folder / "again.csv").write_text("n\\n1\\n")
"""
"""Syncs one file and never stops to write another; in later attempts it is done at once."""
SYNCED: Final = b"n\n" * 10_000

CUTS: Final = {FIRST: (1, 6), SECOND: (4, 11)}
"""At how many MiB of its upload each device loses its power."""


def test_power_cuts_at_several_bytes_of_an_upload(
    fleet: Fleet, namespace: str, volume: ResultsVolume, figures: Figures
) -> None:
    """At the first cut another job runs, whose volume kubelet has no record of afterwards."""
    make_app(fleet, namespace, "steady", STEADY)
    make_app(fleet, namespace, "writer", WRITER, outputs=OUTPUTS)
    patient = {"placement": pinned(FIRST), "disconnect": {"replaceAfterSeconds": None}}
    steady = start(fleet, namespace, "steady", "steady", **patient)
    steady.until_phase("Running")
    received_before = received_bytes(fleet)
    uploads = {device: volume.upload(send(fleet, namespace, device)) for device in CUTS}
    for upload in uploads.values():
        until_ended(upload.job)
    live = live_volume(fleet, FIRST, steady)
    empty_record(live)
    unsynced: list[int] = []

    def look() -> None:
        """How much the other job has written, when it can write no more and nothing is synced any more."""
        if not unsynced:
            fleet.hang(FIRST)
            unsynced.append((live / "unsynced.csv").stat().st_size)

    with put_right(fleet, *CUTS), ThreadPoolExecutor(len(CUTS)) as pool:
        cutting = [
            pool.submit(_cut_power, fleet, device, uploads[device], places, look if device == FIRST else None)
            for device, places in CUTS.items()
        ]
        arrived = [bytes_ for cut in cutting for bytes_ in cut.result()]
        for upload in uploads.values():
            upload.job.until("Complete", 120)
    with results(fleet, namespace) as reader:
        compared = sum(FILES for upload in uploads.values() if check_published(reader, upload.job, SIZE) == 1)
        assert steady.until("Complete")["results"]["attempt"] > 1
        kept = attempt_files(reader, steady, 1, 240)
        assert attempt_file(reader, steady, 1, "synced.csv") == SYNCED
        _check_unsynced(reader, steady, {file["name"] for file in kept["files"]}, unsynced[0])
        of_steady = sum(one["bytes"] for one in attempts(reader, steady))
    written = sum(len(_written(upload.job)) for upload in uploads.values()) + of_steady
    twice = received_bytes(fleet) - received_before - written
    for bytes_ in arrived:
        figures(f"power cut amid an upload of {SIZE} MiB, so much had arrived", bytes_ / MIB, None, "MiB")
    figures("power cuts amid uploads: bytes sent twice", twice, WRITTEN_AT_ONCE * len(arrived), "B")
    assert twice <= WRITTEN_AT_ONCE * len(arrived), "each upload went on where it was"
    Tally(FILES * len(uploads), len(arrived), len(arrived), compared).tell(figures, "power cuts amid uploads")


def _cut_power(
    fleet: Fleet, device: str, upload: Upload, places: Iterable[int], look: Callable[[], None] | None
) -> list[int]:
    """Cut the device's power at each of the places, in MiB, after a look; how many bytes had arrived each time."""
    arrived = []
    held: dict[str, int] = {}
    for place in places:
        upload.wait_arrived(place * MIB)
        assert not upload.missing(held)
        if look is not None:
            look()
        fleet.power_off(device)
        arrived.append(upload.arrived())
        assert 0 < arrived[-1] < SIZE * MIB, f"{device} lost its power amid the upload"
        held = upload.acknowledged()
        fleet.power_on(device, wait=False)
    upload.wait_arrived(arrived[-1] + 1)
    assert not upload.missing(held)
    return arrived


def _written(job: Job) -> bytes:
    [attempt] = job.status()["attempts"]
    return b"".join(expected(job.name, 1, attempt["node"], SIZE).values())


def _check_unsynced(reader: Results, job: Job, names: set[str], written: int) -> None:
    """Assert that of a file that was never synced a part is lost, and that the rest is as it was written."""
    home = attempt_file(reader, job, 1, "unsynced.csv") if "unsynced.csv" in names else b""
    survived = home.rstrip(b"\0")  # ext4 keeps the length of a last block whose content is lost
    assert survived == b"".join(b"%07d\n" % number for number in range(len(home) // 8 + 1))[: len(survived)]
    assert len(survived) < written, "else nothing was lost, and this test cuts no power"


LONG: Final = 32
"""MiB, of which two starts of the gateway and a small job take less than the upload does"""
TINY = """
import os, pathlib
pathlib.Path(os.environ["EDGEWISE_OUTPUTS"], "tiny.csv").write_text("a\\n1\\n")
"""


def test_a_gateway_restored_from_an_older_volume(
    fleet: Fleet, namespace: str, volume: ResultsVolume, tmp_path: Path, figures: Figures
) -> None:
    """Uploads go on from the older offset; what was settled since then, and no device has, is said to be lost."""
    make_app(fleet, namespace, "tiny", TINY)
    make_app(fleet, namespace, "writer", WRITER, outputs=OUTPUTS)
    devices = (FIRST, SECOND)
    uploads = [volume.upload(send(fleet, namespace, device, mebibytes=LONG)) for device in devices]
    earlier = start(fleet, namespace, "earlier", "tiny")
    earlier.until("Complete")
    for upload in uploads:
        upload.wait_arrived(2 * MIB)
    with gateway_stopped(fleet):
        volume.copy_to(tmp_path / "copy")
        copied = [upload.acknowledged() for upload in uploads]
    later = start(fleet, namespace, "later", "tiny")
    copies = fleet.device(later.until("Complete")["node"]).root() / "var/lib/kubelet/plugins" / CSI_DRIVER / "spool"
    wait_until(lambda: not list(copies.glob("*/files/tiny.csv")), "its device has no copy any more", seconds=30)
    for upload, held in zip(uploads, copied, strict=True):
        upload.wait_arrived(sum(held.values()) + MIB)
    with gateway_stopped(fleet):
        newer = [upload.acknowledged() for upload in uploads]
        volume.put_back(tmp_path / "copy")
        for upload, held, restored in zip(uploads, newer, copied, strict=True):
            assert restored == upload.acknowledged(), "the volume is the older one"
            assert sum(restored.values()) < sum(held.values())
    for upload in uploads:
        upload.job.until("Complete")
    with results(fleet, namespace) as reader:
        for upload in uploads:
            check_published(reader, upload.job, LONG)
        assert reader.file(namespace, "earlier", "tiny.csv") == b"a\n1\n"
        assert reader.listing(namespace, "later")["state"] == "Lost"
        answer = reader.request(f"/v1/namespaces/{namespace}/jobs/later/files/tiny.csv")
        assert (answer.status, json.decode(answer.data)["reason"]) == (404, "ResultsLost")
    interrupted = sum(0 < max(held.values()) < LONG * MIB for held in newer)
    sent = FILES * len(uploads) + 2
    Tally(sent, interrupted, interrupted, sent - 1).tell(figures, "gateway restored amid uploads")


TABLE = """
import os, pathlib, sys
line = f"{os.environ['EDGEWISE_JOB']},1,2,3\\n".encode()
pathlib.Path(os.environ["EDGEWISE_OUTPUTS"], "table.csv").write_bytes(line * int(sys.argv[1]))
"""
HOME_AGAIN_SECONDS: Final = 90.0
"""the longest wait of one volume, 30 s, and the time that the bytes take"""
ROOMY: Final = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
TABLE_LINES: Final = 3_000_000
"""So many that two tables fill the spool, and that one compresses to next to nothing."""


def test_a_full_volume_and_a_full_spool(fleet: Fleet, namespace: str, volume: ResultsVolume, figures: Figures) -> None:
    """The upload waits and its job says why; the spool fills up, the device gets no work, and all goes on by itself."""
    make_app(fleet, namespace, "writer", WRITER, outputs=OUTPUTS)
    make_app(fleet, namespace, "table", TABLE, resources=ROOMY)
    amid = volume.upload(send(fleet, namespace, SECOND))
    until_ended(amid.job)
    amid.wait_arrived(CHUNK_BYTES + 2 * MIB)
    volume.fill()
    held = amid.acknowledged()
    assert sum(held.values()) > CHUNK_BYTES
    try:
        here = {"args": [f"{TABLE_LINES}"], "placement": pinned(FIRST)}
        tables = [start(fleet, namespace, f"table-{number}", "table", **here) for number in (1, 2)]
        wait_until(lambda: "507 VolumeFull" in _told(amid.job), "the job says that the volume is full", seconds=60)
        wait_until(lambda: ready_reasons(fleet)[FIRST] == "SpoolFull", f"the spool of {FIRST} is full", seconds=90)
        late = send(fleet, namespace, FIRST, "late", mebibytes=1)
        wait_until(
            lambda: f"{FIRST} SpoolFull" in late.status().get("placement", {}).get("message", ""),
            "the job says what it waits for",
            seconds=20,
        )
        refused = pod_with_volume(fleet, namespace, FIRST)
        wait_until(lambda: "bytes of results wait to be sent" in refused.events(), "no volume is given", seconds=30)
        for job in (amid.job, *tables):
            job.until_phase("Collecting", 10)
        assert not late.pods()
        assert not amid.missing(held)
    finally:
        volume.free()
    freed_at = now()
    amid.wait_arrived(sum(held.values()) + 1)
    assert not amid.missing(held)
    for job in (amid.job, *tables, late):
        job.until("Complete")
    took = (now() - freed_at).total_seconds()
    wait_until(refused.ready, "the pod has got its volume", seconds=150)
    wait_fresh(fleet, FIRST)
    with results(fleet, namespace) as reader:
        check_published(reader, amid.job, SIZE)
        check_published(reader, late, 1)
        for job in tables:
            assert reader.file(namespace, job.name, "table.csv") == f"{job.name},1,2,3\n".encode() * TABLE_LINES
    files = 2 * FILES + len(tables)
    Tally(files, 1, 1, files).tell(figures, "a full results volume")
    figures("room on the results volume to all results home", took, HOME_AGAIN_SECONDS, "s")
    assert took <= HOME_AGAIN_SECONDS


def _told(job: Job) -> str:
    """Why a job that is under way is not done yet."""
    return job.condition("Reconciling").get("message", "")


GREEDY = """
import os, pathlib, time
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
(folder / "first.csv").write_text("a\\n1\\n")
with (folder / "more.csv").open("wb") as file:
    while True:
        file.write(bytes(2**20))
        file.flush()
        time.sleep(0.2)
"""
SPARSE = """
import os, pathlib, time
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
(folder / "first.csv").write_text("a\\n1\\n")
with (folder / "more.csv").open("wb") as file:
    file.truncate(2**43)
time.sleep(600)
"""
MODEST = """
import os, pathlib, time
pathlib.Path(os.environ["EDGEWISE_OUTPUTS"], "first.csv").write_text("a\\n1\\n")
time.sleep(600)
"""
FILLED_PERCENT: Final = 75.0
"""Over the floor, and less than what kubelet takes for pressure."""


def test_live_volumes_and_the_devices_disk_are_bounded(fleet: Fleet, namespace: str, figures: Figures) -> None:
    """The pod is ended, what it had finished comes home, and what was too large is named."""
    once = {"retry": {"maxAttempts": 1, "maxDisruptions": 0}}
    for name, script in (("greedy", GREEDY), ("sparse", SPARSE), ("modest", MODEST)):
        make_app(fleet, namespace, name, script, outputs={"sizeLimit": "4Mi"})
    modest = start(fleet, namespace, "modest", "modest", placement=pinned(SECOND), **once)
    over = [start(fleet, namespace, name, name, placement=pinned(FIRST), **once) for name in ("greedy", "sparse")]
    modest.until_phase("Running")
    wait_until(lambda: list(live_volume(fleet, SECOND, modest).iterdir()), "it has written", seconds=30)
    fleet.fill(SECOND, FILLED_PERCENT)
    try:
        assert "its floor is" in _ended_for(modest, "DeviceFull")
        refused = pod_with_volume(fleet, namespace, SECOND)
        wait_until(lambda: "the floor is" in refused.events(), "no volume is given", seconds=30)
    finally:
        fleet.fill(SECOND, 0)
    for job in over:
        told = _ended_for(job, "OutputsTooLarge")
        assert f"sizeLimit is {4 * MIB}" in told
        if job.name == "greedy":
            written = int(re.findall(r"(\d+) bytes written", told)[0])
            figures("a volume limited to 4 MiB, written at 5 MiB/s: so much when it was noticed", written / MIB)
    tally = Tally(sent=3)
    with results(fleet, namespace) as reader:
        for job in (modest, *over):
            left = attempt_files(reader, job, 1)
            refused_files = {file["name"]: file["reason"] for file in left["refused"]}
            assert refused_files == ({"more.csv": "TooLarge"} if job in over else {})
            assert [file["name"] for file in left["files"]] == ["first.csv"]
            assert attempt_file(reader, job, 1, "first.csv") == b"a\n1\n"
            tally.compared += 1
    wait_until(refused.ready, "the pod has got its volume", seconds=150)
    tally.tell(figures, "volumes over their limits")


def _ended_for(job: Job, reason: str) -> str:
    """What is told of the end of a job that failed for `reason`."""
    job.until("Failed")
    assert job.condition("Failed")["reason"] == reason
    return job.condition("Failed")["message"]


BACK_WITHIN_SECONDS: Final = 2 * LONGEST_WAIT_SECONDS + 2 * SIZE
"""Twice the longest wait: at the first try kube-proxy may not know yet that the gateway has moved meanwhile."""


def test_a_cable_cut_for_minutes_amid_an_upload(fleet: Fleet, cut_off: CutOff, figures: Figures) -> None:
    """It is plugged in again once the agent waits as long as it ever does; tests/agent has a cut of hours."""
    upload = cut_off.upload
    wait_until(lambda: _longest_wait(fleet, cut_off.at) > LONGEST_BEFORE_SECONDS, "the cap is reached", seconds=300)
    assert upload.job.phase() == "Collecting"
    held = upload.acknowledged()
    assert sum(held.values()) > cut_off.arrived - WRITTEN_AT_ONCE, "what had arrived is kept"
    fleet.plug(CUT_OFF)
    plugged_at = now()
    upload.wait_arrived(sum(held.values()) + 1)
    assert not upload.missing(held)
    status = upload.job.until("Complete", 150)
    assert [one["outcome"] for one in status["attempts"]] == ["Succeeded"]
    took = (now() - plugged_at).total_seconds()
    with results(fleet, upload.job.namespace) as reader:
        assert check_published(reader, upload.job, SIZE) == 1
    sizes = {hashlib.sha256(one).hexdigest(): len(one) for one in expected(upload.job.name, 1, CUT_OFF, SIZE).values()}
    interrupted = sum(0 < held.get(sha256, 0) < size for sha256, size in sizes.items())
    assert interrupted
    figures("a cable was cut amid an upload for", (plugged_at - cut_off.at).total_seconds(), None, "s")
    figures("cable back to all results home", took, BACK_WITHIN_SECONDS, "s")
    Tally(FILES, interrupted, interrupted, FILES).tell(figures, "a cable cut amid an upload")
    assert took <= BACK_WITHIN_SECONDS


def _longest_wait(fleet: Fleet, since: datetime) -> float:
    """The longest wait, in seconds, that the agent of the device without cable has logged since then."""
    logs = (fleet.device(CUT_OFF).root() / "var/log/pods").glob(f"{NAMESPACE}_edgewise-agent-*/agent/*.log")
    waits = [0.0]
    for line in (line for log in logs for line in log.read_text().splitlines()):
        said = re.search(r"results can't be sent now, trying again in ([\d.]+) s", line)
        if said and datetime.fromisoformat(line.split()[0]).astimezone(UTC) >= since:
            waits.append(float(said[1]))
    return max(waits)
